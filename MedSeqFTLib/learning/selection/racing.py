"""Which K cases have the lowest mean loss, found with as few passes as it takes. Torch-free: losses come from outside.

Racing (Maron and Moore, "Hoeffding races", 1994; here with paired differences instead of Hoeffding's bound): every case
runs some passes; whoever is surely among the K best or surely not stops, the others go on, up to a cap. Common random
numbers make the losses of pass i comparable between cases, so differences are far surer than the means themselves.
A race that starts at its cap is the plain estimator: the same number of passes for everybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from MedSeqFTLib.workspace.schema import SelectionReason

START = 30  # passes of every case; fewer say too little of how much the losses vary
GROWTH = 1.5  # of the passes from round to round; with 1.3 there are half more rounds and 4 % fewer passes

Matrix = NDArray[np.float64]
Losses = Callable[[str, range], Sequence[float]]  # of these passes over a case


@dataclass(frozen=True)
class Rules:
    """Of a race.

    Attributes:
        keep: K.
        cap: passes of a case at most.
        z: how sure a difference must be before a case stops: in standard errors, if very many passes had been run.
        start: passes of the first round.
        unit: rounds end at a multiple of it or at the cap, because so many passes are computed at once anyway.
    """

    keep: int
    cap: int
    z: float
    start: int = START
    growth: float = GROWTH
    unit: int = 1

    def until(self, done: int) -> int:
        """Passes after the round that follows `done` passes."""
        wanted = max(self.start, done + 1, math.ceil(done * self.growth - 1e-9))
        return min(self.cap, math.ceil(wanted / self.unit) * self.unit)


@dataclass(frozen=True)
class Verdict:
    """What a race found of a case; `losses` are those of passes 0, 1, ..."""

    case: str
    losses: tuple[float, ...]
    kept: bool
    reason: SelectionReason

    @property
    def mean(self) -> float:
        """The score."""
        return float(np.mean(self.losses))

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None after a single pass."""
        passes = len(self.losses)
        return float(np.std(self.losses, ddof=1) / math.sqrt(passes)) if passes > 1 else None

    @property
    def tie(self) -> bool:
        """Was the case too close to the border to be decided surely?"""
        return self.reason.startswith("tie zone")

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % confidence interval of the mean, taken for itself; None after a single pass."""
        error = self.standard_error
        if error is None:
            return None
        reach = float(student.ppf(0.975, len(self.losses) - 1)) * error
        return self.mean - reach, self.mean + reach


class Race:
    """A race between cases, round by round.

    In each round every case of `undecided` runs the passes of `passes`, in any order and on any machine; `close_round`
    is the barrier. Only undecided cases are compared, all of which have run the same passes.
    """

    def __init__(self, cases: Sequence[str], rules: Rules) -> None:
        self.undecided = list(cases)
        self.passes = range(rules.until(0))
        self.verdicts: dict[str, Verdict] = {}
        self._rules = rules
        self._losses: dict[str, list[float]] = {case: [] for case in cases}

    def run(self, losses: Losses) -> dict[str, Verdict]:
        """Race to the end. Returns a verdict for every case."""
        while self.undecided:
            self.close_round({case: losses(case, self.passes) for case in self.undecided})
        return self.verdicts

    def close_round(self, losses: Mapping[str, Sequence[float]]) -> None:
        """Take in the round's losses of every undecided case, and decide whom they suffice for."""
        for case in self.undecided:
            if len(losses[case]) != len(self.passes):
                raise ValueError(f"{case}: {len(losses[case])} losses for {len(self.passes)} passes")
            self._losses[case] += losses[case]
        if self._open:
            self._decide()
        if not self._open:  # every place is taken, or there is one for everybody
            self._settle(list(self.undecided), self._places > 0)
        elif self.passes.stop == self._rules.cap:
            self._break_ties()
        else:
            self.passes = range(self.passes.stop, self._rules.until(self.passes.stop))

    @property
    def _places(self) -> int:
        return self._rules.keep - sum(verdict.kept for verdict in self.verdicts.values())

    @property
    def _open(self) -> bool:
        return 0 < self._places < len(self.undecided)

    def _matrix(self) -> Matrix:
        return np.array([self._losses[case] for case in self.undecided])

    def _decide(self) -> None:
        inside, outside = decided(self._matrix(), self._places, self._rules.z)
        cases = list(self.undecided)
        self._settle([case for case, sure in zip(cases, inside, strict=True) if sure], True)
        self._settle([case for case, sure in zip(cases, outside, strict=True) if sure], False)

    def _break_ties(self) -> None:
        order = np.argsort(self._matrix().mean(axis=1), kind="stable")
        cases, places = [self.undecided[i] for i in order], self._places
        self._settle(cases[:places], True, "tie zone, kept by mean")
        self._settle(cases[places:], False, "tie zone, left by mean")

    def _settle(self, cases: Iterable[str], kept: bool, reason: SelectionReason | None = None) -> None:
        why = reason or ("decided in" if kept else "decided out")
        settled = {case: Verdict(case, tuple(self._losses[case]), kept, why) for case in cases}
        self.verdicts |= settled
        self.undecided = [case for case in self.undecided if case not in settled]


def decided(losses: Matrix, keep: int, z: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of these cases are surely among the `keep` best, and which surely are not.

    Args:
        losses: [cases, passes]; 0 < keep < cases.
    """
    order = np.argsort(losses.mean(axis=1), kind="stable")
    last_inside, first_outside = losses[order[keep - 1]], losses[order[keep]]
    return _surely_negative(losses - first_outside, z), _surely_negative(last_inside - losses, z)


def _surely_negative(differences: Matrix, z: float) -> NDArray[np.bool_]:
    """Of paired differences [cases, passes]: does the mean lie below zero, as surely as z standard errors of a normal
    distribution tell? With few passes their own spread is unsure, too, and Student's quantile takes more errors.
    """
    passes = differences.shape[1]
    if passes < 2:
        return np.zeros(len(differences), bool)
    errors = differences.std(axis=1, ddof=1) / math.sqrt(passes)
    reach = float(student.isf(norm.sf(z), passes - 1))
    return np.asarray(differences.mean(axis=1) < -reach * errors)
