"""Continual-learning measures of a comparison: ACC, BWT, FWT and gains, each with a paired bootstrap interval.

With a[t][i] the score of task i after stage t in one of the two readings, b[i] that of the baseline, and n tasks:

    ACC  = mean over i of a[n][i]
    BWT  = mean over i < n of a[n][i] - a[i][i]      backward transfer; below 0 is forgetting
    FWT  = mean over i > 1 of a[i][i] - b[i]         forward transfer: what starting from M_{i-1} is worth
    gain = mean over i of a[n][i] - b[i]

A score is the mean over labels of the mean over cases of Dice, HD95 (mm, lower is better) or NSD, empty references left
out. Per task, a[n][i] is a[i][i], because no later stage touches the model of a task: its BWT is 0 by construction and
is not computed. Differences are taken case by case, on the cases where both sides are defined: an HD95 that is missing
on one side, because nothing was predicted there, is left out on both.

After Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017; FWT differs from theirs,
which scores tasks before they are learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from MedSeqFTLib.evaluation.averages import Measure
from MedSeqFTLib.evaluation.bootstrap import DRAWS, Interval, Values, interval
from MedSeqFTLib.evaluation.matrices import Matrices, Run
from MedSeqFTLib.evaluation.results import FOUNDATION, Comparison
from MedSeqFTLib.workspace.schema import Reading

MEASURES: tuple[Measure, ...] = ("dice", "hd95", "nsd")
READINGS: tuple[Reading, ...] = ("per-task", "single-model")

#: Values [cases, labels] of a task in a run; None where something that they need was not measured.
Value = Callable[[Run, str], "Values | None"]


@dataclass(frozen=True)
class Misses:
    """Structures of held-out cases, over all complete runs and all tasks after the last stage."""

    missed: int  # with a reference, but nothing predicted: HD95 is not defined
    present: int  # with a reference
    empty: int  # without: left out everywhere


class Analysis:
    """The measures of a comparison. Runs of which a needed cell is missing are left out; nothing left gives None."""

    def __init__(self, comparison: Comparison, draws: int = DRAWS) -> None:
        self.comparison = comparison
        self.matrices = Matrices(comparison)
        self.draws = draws
        self._known: dict[Hashable, Interval | None] = {}

    def acc(self, strategy: str, reading: Reading, measure: Measure = "dice") -> Interval | None:
        """Mean score over the tasks after the last stage."""
        key = ("acc", strategy, reading, measure)
        return self._interval(key, strategy, self._final(strategy, reading, measure))

    def gain(self, strategy: str, reading: Reading, measure: Measure = "dice") -> Interval | None:
        """Score after the last stage less the baseline's; None for the baseline itself, per task."""
        if strategy == self.comparison.baseline and reading == "per-task":
            return None
        value = _less(self._final(strategy, reading, measure), self._of_baseline(measure))
        return self._interval(("gain", strategy, reading, measure), strategy, value)

    def lead(self, strategy: str, other: str, reading: Reading, measure: Measure = "dice") -> Interval | None:
        """Score after the last stage less that of another strategy, over the runs that both have."""
        value = _less(self._final(strategy, reading, measure), self._final(other, reading, measure))
        return self._interval(("lead", strategy, other, reading, measure), strategy, value)

    def bwt(self, strategy: str, measure: Measure = "dice") -> Interval | None:
        """Backward transfer of the single-model reading. None where nothing can be forgotten by construction."""
        if self.comparison.note(strategy).single_model != "measured":
            return None
        value = _less(self._final(strategy, "single-model", measure), self._own(strategy, "single-model", measure))
        return self._interval(("bwt", strategy, measure), strategy, value, slice(None, -1))

    def fwt(self, strategy: str, reading: Reading = "per-task", measure: Measure = "dice") -> Interval | None:
        """Forward transfer. None for the baseline, and where the tasks are not learnt one after another."""
        if strategy == self.comparison.baseline:
            return None
        value = _less(self._own(strategy, reading, measure), self._of_baseline(measure))
        return self._interval(("fwt", strategy, reading, measure), strategy, value, slice(1, None))

    def cannot_forget(self, strategy: str) -> bool:
        """True where one model learns the tasks in turn and keeps them by construction: its BWT is 0 unmeasured."""
        runs = self.matrices.complete(strategy)
        same = self.comparison.note(strategy).single_model == "same as per task"
        return same and bool(runs) and all(self.matrices.learns_in_turn(strategy, run) for run in runs)

    def of_task(self, strategy: str, reading: Reading, task: str, measure: Measure = "dice") -> float | None:
        """Mean score of one task after the last stage, over the complete runs whose order has the task."""
        runs = [run for run in self.matrices.complete(strategy, reading) if task in self.matrices.order(run)]
        return _mean(self.matrices.final(strategy, run, reading, task, measure) for run in runs)

    def matrix(self, strategy: str, order: int, measure: Measure = "dice") -> list[list[float | None]] | None:
        """a[t][i] of the single-model reading, rows t, columns i, mean over the seeds; None unless it was measured.

        A cell is None where t < i, or where one of the complete runs lacks it.
        """
        runs = [run for run in self.matrices.complete(strategy, "single-model") if run[0] == order]
        if not runs or self.comparison.note(strategy).single_model != "measured":
            return None
        tasks = self.comparison.orders[order]
        return [
            [_mean(self.matrices.at(strategy, run, "single-model", task, t, measure) for run in runs) for task in tasks]
            for t in range(1, len(tasks) + 1)
        ]

    def misses(self, strategy: str, reading: Reading) -> Misses:
        """What the means leave out."""
        missed = present = empty = 0
        for run in self.matrices.complete(strategy, reading):
            order = self.matrices.order(run)
            for score in (s for i in order for s in self.matrices.scores(strategy, run, reading, i, len(order)) or ()):
                there = [name for name, dice in score.dice.items() if dice is not None]
                missed += sum(name in score.hd95 and score.hd95[name] is None for name in there)
                present += len(there)
                empty += len(score.dice) - len(there)
        return Misses(missed, present, empty)

    def unseen_tasks(self) -> list[str]:
        """The tasks of the transfers."""
        return sorted({transfer.task for transfer in self.comparison.transfers})

    def transfer(self, strategy: str, tasks: Sequence[str], measure: Measure = "dice") -> Interval | None:
        """Score on unseen tasks after fine-tuning from M_n of a strategy, or from M_0."""
        return self._over_transfers("level", strategy, tasks, self._transferred(strategy, measure), measure)

    def transfer_gain(self, strategy: str, tasks: Sequence[str], measure: Measure = "dice") -> Interval | None:
        """What starting from M_n of a strategy instead of M_0 is worth on unseen tasks."""
        value = _less(self._transferred(strategy, measure), self._transferred(FOUNDATION, measure))
        return self._over_transfers("gain", strategy, tasks, value, measure)

    def _final(self, strategy: str, reading: Reading, measure: Measure) -> Value:
        return lambda run, task: self.matrices.final(strategy, run, reading, task, measure)

    def _own(self, strategy: str, reading: Reading, measure: Measure) -> Value:
        return lambda run, task: self.matrices.own(strategy, run, reading, task, measure)

    def _of_baseline(self, measure: Measure) -> Value:
        return lambda run, task: self.matrices.of_baseline(run, task, measure)

    def _transferred(self, strategy: str, measure: Measure) -> Value:
        return lambda run, task: self.matrices.transferred(strategy, run, task, measure)

    def _interval(self, key: Hashable, strategy: str, value: Value, part: slice = slice(None)) -> Interval | None:
        """Over the runs of a strategy, each with the tasks of this part of its order; computed once."""
        if key not in self._known:
            wanted = {run: self.matrices.order(run)[part] for run in self.matrices.runs(strategy)}
            self._known[key] = self._bootstrap(wanted, value)
        return self._known[key]

    def _over_transfers(
        self, what: str, strategy: str, tasks: Sequence[str], value: Value, measure: Measure
    ) -> Interval | None:
        key = ("transfer", what, strategy, *tasks, measure)
        if key not in self._known:
            self._known[key] = self._bootstrap(
                dict.fromkeys(self.matrices.transfer_runs(strategy), tuple(tasks)), value
            )
        return self._known[key]

    def _bootstrap(self, wanted: Mapping[Run, Sequence[str]], value: Value) -> Interval | None:
        """The mean over runs of the mean over the tasks wanted of each; runs that lack one are left out."""
        found = {(run, task): value(run, task) for run, tasks in wanted.items() for task in tasks}
        runs = [run for run, tasks in wanted.items() if tasks and all(found[run, task] is not None for task in tasks)]
        tasks = sorted({task for run in runs for task in wanted[run]})
        counted = np.array([[task in wanted[run] for task in tasks] for run in runs], bool)
        samples = [[found.get((run, task)) for run in runs] for task in tasks]
        arrays = [np.stack([self._or_nothing(task, v) for v in row]) for task, row in zip(tasks, samples, strict=True)]
        return interval(arrays, counted, self.draws)

    def _or_nothing(self, task: str, values: Values | None) -> Values:
        return self.matrices.nothing(task) if values is None else values


def _less(left: Value, right: Value) -> Value:
    """The difference case by case; NaN where either side is not defined."""

    def value(run: Run, task: str) -> Values | None:
        minuend, subtrahend = left(run, task), right(run, task)
        return None if minuend is None or subtrahend is None else minuend - subtrahend

    return value


def _mean(runs: Iterable[Values | None]) -> float | None:
    """Mean over runs of a task's score; None if one is missing."""
    found = list(runs)
    whole = [values for values in found if values is not None]
    mean = interval([np.stack(whole)], draws=0) if whole and len(whole) == len(found) else None
    return mean.mean if mean else None
