"""What a comparison of strategies hands over: plain data, from which numbers, tables, pictures and a page are made.

Stages count from 1 and stand for t in a[t][i]; orders count from 0. The words are those of docs/method.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.schema import CaseScore, Reading

SingleModel = Literal["measured", "same as per task", "none"]
CurvePoint = tuple[int, float | None, float | None]  # step, Dice, training loss; None: not known at this step
FOUNDATION = ""  # the strategy of a Transfer that starts from M_0


@dataclass(frozen=True)
class Measured:
    """a[t][i]: the held-out cases of one task, measured after one stage of a run."""

    strategy: str  # its label, for instance "MedSeqFT" or "MedSeqFT rank 4"
    seed: int
    order: int  # number of the task order
    stage: int  # t
    task: str  # i
    reading: Reading
    scores: tuple[CaseScore, ...]


@dataclass(frozen=True)
class Transfer:
    """Fine-tuning on an unseen task from the last model M_n of a strategy, or from M_0 where `strategy` is empty."""

    strategy: str
    seed: int
    order: int
    task: str
    scores: tuple[CaseScore, ...]


@dataclass(frozen=True)
class Cost:
    """What one stage took."""

    strategy: str
    seed: int
    order: int
    stage: int
    task: str
    seconds: float
    peak_mib: float | None  # memory


@dataclass(frozen=True)
class StrategyNote:
    """A strategy that takes part. `single_model` says where its single-model reading comes from.

    "same as per task" is for strategies whose earlier tasks cannot change, because all tasks have one model anyway or
    the shared part is frozen.
    """

    label: str
    description: str  # one sentence
    keeps: str  # the data it must keep of earlier tasks
    single_model: SingleModel = "measured"


@dataclass(frozen=True)
class Comparison:
    """Strategies over the same task sequences.

    The baseline does not depend on the order: what is given of it for order 0 counts for every order that it lacks.
    The same holds for transfers from M_0.

    Raises:
        InputError: something belongs to no strategy, order or task of the comparison, or is given twice.
    """

    title: str
    orders: tuple[tuple[str, ...], ...]
    strategies: tuple[StrategyNote, ...]
    measured: tuple[Measured, ...]
    transfers: tuple[Transfer, ...] = ()
    costs: tuple[Cost, ...] = ()
    curves: Mapping[str, tuple[CurvePoint, ...]] = field(default_factory=dict)  # of the baseline, by task
    tolerance: float | None = None  # mm, of NSD; None: surfaces were not measured
    facts: tuple[tuple[str, str], ...] = ()  # command, hardware, software, date, time
    cautions: tuple[str, ...] = ()
    unfinished: int = 0  # cells that are still missing
    baseline: str = "parallel"

    def __post_init__(self) -> None:
        self._refuse_duplicates()
        labels = {note.label for note in self.strategies}
        if self.baseline not in labels:
            raise InputError(f"The baseline {self.baseline!r} is not among the strategies {sorted(labels)}.")
        found = {(m.strategy, m.order) for m in self.measured} | {(c.strategy, c.order) for c in self.costs}
        found |= {(t.strategy, t.order) for t in self.transfers if t.strategy != FOUNDATION}
        for strategy, number in sorted(found):
            if strategy not in labels:
                raise InputError(f"Strategy {strategy!r} has results, but is not among {sorted(labels)}.")
            if not 0 <= number < len(self.orders):
                raise InputError(f"{strategy}: order {number} does not exist; there are {len(self.orders)}.")
        for cell in self.measured:
            order = self.orders[cell.order]
            if cell.task not in order or not 1 <= cell.stage <= len(order):
                where = f"task {cell.task!r} after stage {cell.stage}"
                raise InputError(f"{cell.strategy}: order {cell.order} has no {where}; its tasks are {list(order)}.")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of all orders, as the first order that has them."""
        return tuple(dict.fromkeys(task for order in self.orders for task in order))

    def note(self, strategy: str) -> StrategyNote:
        """What is said of a strategy."""
        return next(note for note in self.strategies if note.label == strategy)

    def _refuse_duplicates(self) -> None:
        twice = next(_repeated(note.label for note in self.strategies), None)
        cells = ((m.strategy, m.seed, m.order, m.stage, m.task, m.reading) for m in self.measured)
        twice = twice or next(_repeated(cells), None)
        twice = twice or next(_repeated((t.strategy, t.seed, t.order, t.task) for t in self.transfers), None)
        twice = twice or next(_repeated((c.strategy, c.seed, c.order, c.stage, c.task) for c in self.costs), None)
        if twice is not None:
            raise InputError(f"{twice!r} is given twice in the comparison {self.title!r}.")


def _repeated(keys: Iterable[Hashable]) -> Iterator[Hashable]:
    return (key for key, count in Counter(keys).items() if count > 1)
