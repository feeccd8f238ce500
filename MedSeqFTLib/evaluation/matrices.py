"""Finds what was measured in a comparison: a[t][i] of a strategy, a run and a reading, as cases or as an array."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from MedSeqFTLib.evaluation.averages import Measure
from MedSeqFTLib.evaluation.bootstrap import Values
from MedSeqFTLib.evaluation.results import FOUNDATION, Comparison, Measured, Transfer
from MedSeqFTLib.workspace.schema import CaseScore, Reading

Scores = tuple[CaseScore, ...]
Run = tuple[int, int]  # order, seed


class Matrices:
    """The matrices a[t][i] of a comparison. Everything that is asked for and was not measured is None."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self._measured = {
            (m.strategy, (m.order, m.seed), m.reading, m.task, m.stage): m.scores for m in comparison.measured
        }
        self._transfers = {(t.strategy, (t.order, t.seed), t.task): t.scores for t in comparison.transfers}
        self._axes = _axes([*comparison.measured, *comparison.transfers])

    def order(self, run: Run) -> tuple[str, ...]:
        """The tasks of a run, one a stage."""
        return self.comparison.orders[run[0]]

    def runs(self, strategy: str) -> list[Run]:
        """The runs of a strategy of which anything is there."""
        return sorted({run for label, run, *_ in self._measured if label == strategy})

    def complete(self, strategy: str, reading: Reading = "per-task") -> list[Run]:
        """The runs of which every task of the order has a[n][i]."""
        return [run for run in self.runs(strategy) if all(self._final_models(strategy, reading, run))]

    def _final_models(self, strategy: str, reading: Reading, run: Run) -> Iterable[bool]:
        order = self.order(run)
        return (self.scores(strategy, run, reading, task, len(order)) is not None for task in order)

    def scores(self, strategy: str, run: Run, reading: Reading, task: str, stage: int) -> Scores | None:
        """a[t][i] as cases. Where a strategy has one model that cannot forget, both readings are the same."""
        single_model = "same as per task" if reading == "per-task" else self.comparison.note(strategy).single_model
        if single_model == "measured":
            return self._measured.get((strategy, run, reading, task, stage))
        own = self.own_stage(strategy, run, task)
        if single_model == "none" or own is None or stage < own:
            return None
        return self._measured[strategy, run, "per-task", task, own]

    def own_stage(self, strategy: str, run: Run, task: str) -> int | None:
        """The stage whose model segments the task in the per-task reading: the first one that was measured."""
        stages = range(1, len(self.order(run)) + 1)
        return next((t for t in stages if (strategy, run, "per-task", task, t) in self._measured), None)

    def learns_in_turn(self, strategy: str, run: Run) -> bool:
        """True if every task has a stage of its own, in the order of the run: only then is there a BWT or FWT."""
        return all(self.own_stage(strategy, run, task) == t for t, task in enumerate(self.order(run), 1))

    def has(self, measure: Measure) -> bool:
        """Was it measured at all?"""
        return any(getattr(score, measure) for cell in self.comparison.measured for score in cell.scores)

    # --- values of a task in a run: float64 [cases, labels], NaN where a figure is not defined ------------------------

    def at(self, strategy: str, run: Run, reading: Reading, task: str, stage: int, measure: Measure) -> Values | None:
        """a[t][i]."""
        return self._values(task, self.scores(strategy, run, reading, task, stage), measure)

    def own(self, strategy: str, run: Run, reading: Reading, task: str, measure: Measure) -> Values | None:
        """a[i][i]. None where the tasks are not learnt one after another."""
        measured = reading == "single-model" and self.comparison.note(strategy).single_model == "measured"
        if not measured and not self.learns_in_turn(strategy, run):
            return None
        return self.at(strategy, run, reading, task, self.order(run).index(task) + 1, measure)

    def final(self, strategy: str, run: Run, reading: Reading, task: str, measure: Measure) -> Values | None:
        """a[n][i]."""
        if strategy == self.comparison.baseline and reading == "per-task":
            return self.of_baseline(run, task, measure)
        return self.at(strategy, run, reading, task, len(self.order(run)), measure)

    def of_baseline(self, run: Run, task: str, measure: Measure) -> Values | None:
        """b[i] of the run itself, or else of the run with the same seed and order 0."""
        baseline = self.comparison.baseline
        for place in (run, (0, run[1])):
            if task in self.order(place) and self.own_stage(baseline, place, task) is not None:
                return self.at(baseline, place, "per-task", task, len(self.order(place)), measure)
        return None

    def transferred(self, strategy: str, run: Run, task: str, measure: Measure) -> Values | None:
        """An unseen task fine-tuned from M_n; from M_0, that of the run itself or else of the same seed and order 0."""
        places = [run, (0, run[1])] if strategy == FOUNDATION else [run]
        found = (self._transfers.get((strategy, place, task)) for place in places)
        return self._values(task, next((scores for scores in found if scores is not None), None), measure)

    def transfer_runs(self, strategy: str) -> list[Run]:
        """The runs of a strategy from which anything was fine-tuned on an unseen task."""
        return sorted({run for label, run, _ in self._transfers if label == strategy})

    def nothing(self, task: str) -> Values:
        """The array of a task with nothing in it."""
        cases, labels = self._axes[task]
        return np.full((len(cases), len(labels)), np.nan)

    def _values(self, task: str, scores: Scores | None, measure: Measure) -> Values | None:
        if scores is None:
            return None
        cases, labels = self._axes[task]
        values = self.nothing(task)
        for score in scores:
            for name, value in getattr(score, measure).items():
                values[cases[score.case], labels[name]] = np.nan if value is None else value
        return values


def _axes(parts: Iterable[Measured | Transfer]) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
    """Of every task, the places of its cases and of its labels."""
    cases: dict[str, set[str]] = {}
    labels: dict[str, set[str]] = {}
    for part in parts:
        cases.setdefault(part.task, set()).update(score.case for score in part.scores)
        labels.setdefault(part.task, set()).update(name for s in part.scores for name in (*s.dice, *s.hd95, *s.nsd))
    return {task: (_places(cases[task]), _places(labels[task])) for task in cases}


def _places(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(sorted(names))}
