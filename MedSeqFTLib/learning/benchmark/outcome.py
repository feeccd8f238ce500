"""From the records of finished cells to the plain data of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from MedSeqFTLib.evaluation.averages import mean_dice
from MedSeqFTLib.evaluation.results import (
    FOUNDATION,
    Comparison,
    Cost,
    CurvePoint,
    Measured,
    SingleModel,
    StrategyNote,
    Transfer,
)
from MedSeqFTLib.learning.benchmark.cells import Cell, Planner, Run, in_order
from MedSeqFTLib.learning.benchmark.config import BASELINE, BenchmarkConfig, BenchmarkStrategy
from MedSeqFTLib.learning.benchmark.records import CellRecord, record_of
from MedSeqFTLib.learning.held_out import TOLERANCE
from MedSeqFTLib.learning.strategies.registry import REGISTRY
from MedSeqFTLib.workspace.schema import TaskScores

_READ: Mapping[str, SingleModel] = {"chain": "measured", "own parts": "same as per task", "none": "none"}


@dataclass(frozen=True)
class Outcome:
    """What is finished of a benchmark."""

    config: BenchmarkConfig
    planner: Planner
    folder: Path

    def comparison(self, facts: Sequence[tuple[str, str]], cautions: Sequence[str]) -> Comparison:
        """Everything that is finished; what is missing is counted. Raises WorkspaceError if a record is damaged."""
        runs = self.planner.runs()
        compared = [run for run in runs if not run.strategy.is_curve]
        records = {cell.key: record_of(self.folder, cell) for cell in in_order(runs, self.planner.baselines(runs))}
        found = {key: record for key, record in records.items() if record is not None}
        return Comparison(
            title=self.config.title,
            orders=self.config.sequences,
            strategies=tuple(_note(s) for s in self.config.strategies if not s.is_curve),
            measured=tuple(m for run in compared for m in _measured(run, found, self.config)),
            transfers=tuple(t for run in compared for t in _transfers(run, found)) + self._baselines(compared, found),
            costs=tuple(cost for run in compared for cost in _costs(run, found, self.config)),
            curves=_curves(runs, found),
            tolerance=TOLERANCE,
            facts=(*facts, ("Computed on", "; ".join(sorted({record.computed_on for record in found.values()})))),
            cautions=tuple(cautions),
            unfinished=len(records) - len(found),
            baseline=self.config.baseline.name if self.config.baseline else "",
        )

    def _baselines(self, runs: Sequence[Run], found: Mapping[str, CellRecord]) -> tuple[Transfer, ...]:
        wanted = sorted({(task, run.seed) for run in runs for task in run.transfers})
        cells = [(task, seed, self.planner.from_foundation(task, seed).key) for task, seed in wanted]
        return tuple(
            Transfer(FOUNDATION, seed, 0, task, found[key].per_task[0].cases)
            for task, seed, key in cells
            if key in found
        )


def _note(strategy: BenchmarkStrategy) -> StrategyNote:
    how = REGISTRY[strategy.kind]
    changed = ", ".join(f"{name} = {_shown(value)}" for name, value in strategy.settings.items())
    description = f"{how.description} Here with {changed}." if changed else how.description
    return StrategyNote(strategy.name, description, how.keeps, _READ[how.single_model])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _stages(run: Run, config: BenchmarkConfig) -> Iterator[tuple[int, Cell]]:
    """Stage numbers with their cells; what is learned at once counts as the last stage."""
    length = len(config.sequences[run.order])
    return zip(range(length - len(run.stages) + 1, length + 1), run.stages, strict=True)


def _measured(run: Run, found: Mapping[str, CellRecord], config: BenchmarkConfig) -> Iterator[Measured]:
    for stage, cell in _stages(run, config):
        record = found.get(cell.key)
        if record is not None:
            single = record.single_model if REGISTRY[run.strategy.kind].single_model == "chain" else ()
            for scores in (*record.per_task, *single):
                yield _one(run, stage, scores)


def _one(run: Run, stage: int, scores: TaskScores) -> Measured:
    return Measured(run.strategy.name, run.seed, run.order, stage, scores.task, scores.reading, scores.cases)


def _transfers(run: Run, found: Mapping[str, CellRecord]) -> Iterator[Transfer]:
    for task, cell in run.transfers.items():
        if cell.key in found:
            yield Transfer(run.strategy.name, run.seed, run.order, task, found[cell.key].per_task[0].cases)


def _costs(run: Run, found: Mapping[str, CellRecord], config: BenchmarkConfig) -> Iterator[Cost]:
    """Of stages that were learned without a break. What is learned at once is shared out among its tasks."""
    for stage, cell in _stages(run, config):
        record = found.get(cell.key)
        if record is not None and record.whole:
            tasks = (cell.task, *(task for task, _ in cell.beside))
            for number, task in enumerate(tasks):
                seconds = record.seconds / len(tasks)
                yield Cost(run.strategy.name, run.seed, run.order, stage - number, task, seconds, record.peak_mib)


def _curves(runs: Sequence[Run], found: Mapping[str, CellRecord]) -> dict[str, tuple[CurvePoint, ...]]:
    """Dice of the baseline by its number of steps, each with a whole schedule of its own; the mean over seeds."""
    values: dict[str, dict[int, dict[str, float]]] = {}
    for run in runs:
        for cell in run.stages if run.strategy.kind == BASELINE else ():
            dice = mean_dice(found[cell.key].per_task[0].cases) if cell.key in found else None
            if dice is not None:
                values.setdefault(cell.task, {}).setdefault(cell.steps, {})[cell.key] = dice
    several = {task: points for task, points in values.items() if len(points) > 1}
    return {
        task: tuple((steps, fmean(points[steps].values()), None) for steps in sorted(points))
        for task, points in several.items()
    }
