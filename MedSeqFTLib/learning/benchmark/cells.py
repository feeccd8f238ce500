"""From a benchmark's description to its cells: the stages that have to be computed, each of them once.

A cell is named by everything that its result depends on. So stages that two strategies or two orders have in common
(the first stage of naive sequential fine-tuning is one of parallel fine-tuning) are computed once, and a changed
description computes only what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from MedSeqFTLib.imaging.cache import cache_key
from MedSeqFTLib.learning.benchmark.config import BASELINE, BenchmarkConfig, BenchmarkStrategy, settings_for
from MedSeqFTLib.learning.settings import StrategySettings
from MedSeqFTLib.learning.strategies.registry import REGISTRY

FORMAT = 1
PLAIN = "sequential"  # full fine-tuning of whatever the stage begins with


@dataclass(frozen=True)
class Cell:
    """One stage: a strategy learns a task, beginning with the result of another cell, or with the foundation model."""

    strategy: str
    settings: StrategySettings
    task: str
    seed: int
    parent: Cell | None
    beside: tuple[tuple[str, StrategySettings], ...]  # tasks that are learned at the same time
    data: str  # what the cases and the foundation model are named by

    @cached_property
    def key(self) -> str:
        """A name that changes with everything that the result depends on."""
        parent = self.parent.key if self.parent else None
        beside = [(task, self._relevant(settings)) for task, settings in self.beside]
        own = self._relevant(self.settings)
        parts = (FORMAT, self.strategy, own, self.task, self.seed, parent, beside, self.data)
        return f"{self.strategy}-{self.task}-{self.seed}-{cache_key(*parts)[:10]}"

    def _relevant(self, settings: StrategySettings) -> dict[str, object]:
        return settings.model_dump(mode="json", include=set(REGISTRY[self.strategy].depends_on))

    @property
    def learned(self) -> tuple[str, ...]:
        """The tasks that its chain has heads for, as they were learned."""
        earlier = self.parent.learned if self.parent else ()
        return (*earlier, *(task for task, _ in self.beside), self.task)

    @property
    def steps(self) -> int:
        """Optimiser steps of the training on the tasks, without what the strategy adds."""
        return self.settings.stage_a_steps + sum(settings.stage_a_steps for _, settings in self.beside)


@dataclass(frozen=True)
class Run:
    """One strategy on one order with one seed.

    stages: the cells in the order of the tasks; a strategy that learns all tasks at once has one cell.
    transfers: unseen task -> fine-tuning on it from the last model.
    """

    strategy: BenchmarkStrategy
    seed: int
    order: int
    stages: tuple[Cell, ...]
    transfers: Mapping[str, Cell] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """Everything that must be computed for it, parents first."""
        found: dict[str, Cell] = {}
        for cell in (*self.stages, *self.transfers.values()):
            found.update((ancestor.key, ancestor) for ancestor in _lineage(cell) if ancestor.key not in found)
        return list(found.values())


class Planner:
    """Expands a description. `data` names the cases and the foundation model."""

    def __init__(self, config: BenchmarkConfig, data: str) -> None:
        self._config, self._data = config, data

    def runs(self) -> list[Run]:
        """Every strategy, seed and order."""
        return [
            self._run(strategy, seed, order)
            for strategy in self._config.strategies
            for seed in (self._config.seeds if strategy.seeds is None else strategy.seeds)
            for order in (range(len(self._config.sequences)) if strategy.orders is None else strategy.orders)
        ]

    def from_foundation(self, task: str, seed: int) -> Cell:
        """Fine-tuning of the foundation model: what transfer to an unseen task is compared with."""
        return self._cell(BenchmarkStrategy(kind=BASELINE), task, seed, None)

    def baselines(self, runs: Sequence[Run]) -> list[Cell]:
        """What the transfers of some runs are compared with."""
        return [self.from_foundation(task, run.seed) for run in runs for task in run.transfers]

    def _run(self, strategy: BenchmarkStrategy, seed: int, order: int) -> Run:
        sequence = self._config.sequences[order]
        stages = self._stages(strategy, sequence, seed)
        transfers = self._transfers(strategy, sequence, seed, stages[-1]) if order in strategy.transfer else {}
        return Run(strategy, seed, order, stages, transfers)

    def _stages(self, strategy: BenchmarkStrategy, sequence: Sequence[str], seed: int) -> tuple[Cell, ...]:
        how = REGISTRY[strategy.kind]
        if how.all_at_once:
            tasks = sorted(sequence)
            return (self._cell(strategy, tasks[-1], seed, None, tasks[:-1]),)
        if how.begins_with == "foundation model":
            return tuple(self._cell(strategy, task, seed, None) for task in sequence)
        chain: list[Cell] = []
        for task in sequence:
            chain.append(self._cell(strategy, task, seed, chain[-1] if chain else None))
        return tuple(chain)

    def _transfers(
        self, strategy: BenchmarkStrategy, sequence: Sequence[str], seed: int, last: Cell
    ) -> dict[str, Cell]:
        plain = BenchmarkStrategy(kind=PLAIN)
        found = {t.name: self._cell(plain, t.name, seed, last) for t in self._config.tasks if t.unseen}
        if self._config.leave_one_out:
            for left_out in sequence:
                rest = [task for task in sequence if task != left_out]
                if rest:
                    found[left_out] = self._cell(plain, left_out, seed, self._stages(strategy, rest, seed)[-1])
        return found

    def _cell(
        self,
        strategy: BenchmarkStrategy,
        task: str,
        seed: int,
        parent: Cell | None,
        beside: Sequence[str] = (),
    ) -> Cell:
        def settings(name: str) -> StrategySettings:
            return settings_for(self._config, strategy, self._config.task(name))

        others = tuple((name, settings(name)) for name in beside)
        learner = _learner(strategy.kind, first=parent is None)
        return Cell(learner, settings(task), task, seed, parent, others, self._data)


def _learner(kind: str, first: bool) -> str:
    """Strategies that do the same in a stage share it. LwF has nothing to remember in its first stage."""
    plain = kind in (BASELINE, PLAIN) or (kind == "lwf" and first)
    return PLAIN if plain else kind


def in_order(runs: Sequence[Run], more: Sequence[Cell] = ()) -> list[Cell]:
    """Every cell once, parents before children."""
    return list({cell.key: cell for cell in [*(cell for run in runs for cell in run.cells), *more]}.values())


def urgent_first(cells: Sequence[Cell], cost: Callable[[Cell], float]) -> list[Cell]:
    """The same cells (parents before children), those first that the longest work waits for.

    So processes that share the work have long chains behind them when little is left, and end at about the same time.
    """
    work = {cell.key: cost(cell) for cell in cells}
    for cell in reversed(cells):
        if cell.parent is not None and cell.parent.key in work:
            work[cell.parent.key] = max(work[cell.parent.key], cost(cell.parent) + work[cell.key])
    return sorted(cells, key=lambda cell: -work[cell.key])


def _lineage(cell: Cell) -> Iterator[Cell]:
    if cell.parent is not None:
        yield from _lineage(cell.parent)
    yield cell
