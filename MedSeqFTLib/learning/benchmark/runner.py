"""Computes the cells of a benchmark, each once; after a kill it goes on from where it was.

Several processes may work on the same folder: a cell is taken by whoever locks it first.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import SupportsFloat

import torch
from filelock import FileLock, Timeout

from MedSeqFTLib.learning.benchmark.cells import Cell, urgent_first
from MedSeqFTLib.learning.benchmark.config import BenchmarkConfig
from MedSeqFTLib.learning.benchmark.estimate import units
from MedSeqFTLib.learning.benchmark.material import Material
from MedSeqFTLib.learning.benchmark.records import RECORD, CellRecord, cell_folder, is_finished, record_of
from MedSeqFTLib.learning.data import PreparedData
from MedSeqFTLib.learning.held_out import measure
from MedSeqFTLib.learning.memory import learn_in_memory
from MedSeqFTLib.learning.progress import Dice, Reporter, Teller
from MedSeqFTLib.learning.publishing import published_by
from MedSeqFTLib.learning.runtime import described
from MedSeqFTLib.learning.selection.choice import with_chosen_buffer
from MedSeqFTLib.learning.settings import StrategySettings
from MedSeqFTLib.learning.stage_version import publish_stage
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.learning.strategies.base import Strategy
from MedSeqFTLib.learning.strategies.names import STRATEGIES
from MedSeqFTLib.learning.strategies.registry import REGISTRY
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import Head
from MedSeqFTLib.models.segmenter import Segmenter
from MedSeqFTLib.models.weights import BACKBONE, TASK_BACKBONE, chain_head, load_backbone, load_head, load_task_model
from MedSeqFTLib.workspace.files import write_json
from MedSeqFTLib.workspace.schema import CaseScore, ModelVersion, Reading, TaskScores

_PAUSE = 2.0  # seconds between two looks at cells that others compute
_TIMES = "times.txt"


class Runner:
    """Computes cells in `folder`. `processes`: how many share the machine, which the times depend on."""

    def __init__(self, material: Material, compute: Compute, folder: Path, teller: Teller, processes: int = 1) -> None:
        self._material, self._compute = material, compute
        self._folder, self._teller = folder, teller
        self._computed_on = described(compute) + (f", {processes} processes" if processes > 1 else "")

    def run(self, cells: Sequence[Cell]) -> None:
        """Compute what is not finished. Parents stand before their children.

        Raises:
            JobError: a loss became unusable, or memory is too small.
            StorageError: the disk is full; run again to go on.
        """
        cells = urgent_first(cells, lambda cell: units(cell, self._material.config))
        forecast = _Forecast(self._material.config, self._teller, self._missing(cells))
        while missing := self._missing(cells):
            forecast.look(missing)
            if not any(self._ready(cell) and self._compute_alone(cell) for cell in missing):
                self._teller.check_cancel()
                time.sleep(_PAUSE)  # other processes compute them
        forecast.look([])

    def _missing(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if not is_finished(self._folder, cell)]

    def _ready(self, cell: Cell) -> bool:
        return cell.parent is None or is_finished(self._folder, cell.parent)

    def _compute_alone(self, cell: Cell) -> bool:
        """Compute a cell, unless another process has taken it."""
        folder = cell_folder(self._folder, cell)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / "lock", timeout=0):
                if not is_finished(self._folder, cell):
                    self._compute_cell(cell, folder)
        except Timeout:
            return False
        return True

    def _compute_cell(self, cell: Cell, folder: Path) -> None:
        strategy = REGISTRY[cell.strategy]
        reporter = CellReporter(folder, self._teller, cell.key)
        version = published_by(self._material.workspace, cell.key, "adapted")
        if version is None:
            version = self._learn(strategy, cell, reporter)
        record = self._measured(strategy, cell, version, reporter)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # before the record: nobody comes back after it
        write_json(folder / RECORD, record)

    def _learn(self, strategy: Strategy, cell: Cell, reporter: Reporter) -> ModelVersion:
        context = self.context(cell, reporter)
        selection = None
        times = _Times(reporter.folder / _TIMES)
        with times, self._material.workspace.staging() as folder:
            if strategy.keeps_cases:
                context, selection = with_chosen_buffer(context)
            learned = learn_in_memory(strategy, context, folder)
            return publish_stage(
                context,
                learned,
                folder,
                job=cell.key,
                selection=selection,
                note=f"benchmark, {STRATEGIES[cell.strategy].title}",
            )

    def context(self, cell: Cell, reporter: Reporter) -> Context:
        """What a cell starts from; its parent is finished."""
        contexts = [self._one_context(cell, *other, reporter) for other in cell.beside]
        return replace(self._one_context(cell, cell.task, cell.settings, reporter), beside=contexts)

    def _one_context(self, cell: Cell, task: str, settings: StrategySettings, reporter: Reporter) -> Context:
        material = self._material
        plan = material.plan(task, settings)
        train = material.training_cases(task, cell.seed)
        parent = self._version(cell.parent) if cell.parent else material.foundation
        return Context(
            workspace=material.workspace,
            reporter=reporter,
            settings=settings,
            compute=self._compute,
            seed=cell.seed,
            task=task,
            plan=plan,
            parent=parent,
            foundation=material.foundation,
            train=train,
            prepared=PreparedData(material.workspace).cases(train, plan),
        )

    def _version(self, cell: Cell) -> ModelVersion:
        record = record_of(self._folder, cell)
        assert record is not None, "parents are computed first"
        return self._material.workspace.version(record.version)

    def _measured(self, strategy: Strategy, cell: Cell, version: ModelVersion, reporter: Reporter) -> CellRecord:
        times = _Times(reporter.folder / _TIMES)
        own = [self._measure(cell, version, cell.task, "per-task", reporter)]
        if strategy.all_at_once:
            own += [self._measure(cell, version, task, "single-model", reporter) for task, _ in cell.beside]
        single: list[TaskScores] = []
        if strategy.single_model == "chain":
            known = {scores.task: scores for scores in own} if _one_model(version) else {}
            single = [
                known.get(task) or self._measure(cell, version, task, "single-model", reporter)
                for task in version.plans
            ]
        return CellRecord(
            key=cell.key,
            strategy=cell.strategy,
            task=cell.task,
            seed=cell.seed,
            parent=cell.parent.key if cell.parent else None,
            version=version.id,
            seconds=times.seconds,
            whole=times.starts == 1,
            peak_mib=times.peak_mib,
            computed_on=self._computed_on,
            per_task=tuple(_read_as(scores, "per-task") for scores in own),
            single_model=tuple(_read_as(scores, "single-model") for scores in single),
        )

    def _measure(
        self, cell: Cell, version: ModelVersion, task: str, reading: Reading, reporter: Reporter
    ) -> TaskScores:
        workspace, plan = self._material.workspace, version.plan(task)
        cases = self._material.measured_cases(task)
        reporter.stage(f"measure {task}", len(cases))
        model = _model(self._material, version, task, reading)
        segmenter = Segmenter(*model, plan, self._compute, cell.settings.overlap)
        done = 0

        def after_case(_score: CaseScore) -> None:
            nonlocal done
            done += 1
            reporter.step(done)

        return measure(workspace, segmenter, cases, plan, reading, version.id, after_case, reporter.check_cancel)


class _Forecast:
    """Tells how far the benchmark is, and how long the rest will take at the speed so far of all processes."""

    def __init__(self, config: BenchmarkConfig, teller: Teller, missing: Sequence[Cell]) -> None:
        self._config, self._teller, self._missing = config, teller, missing
        self._began, self._units = time.monotonic(), 0.0

    def look(self, missing: Sequence[Cell]) -> None:
        """These cells are left; tell of those that were finished since the last look, whoever computed them."""
        keys = {cell.key for cell in missing}
        finished = [cell for cell in self._missing if cell.key not in keys]
        self._missing = missing
        if not finished:
            return
        self._units += self._sum(finished)
        minutes = self._sum(missing) / self._units * (time.monotonic() - self._began) / 60
        names = ", ".join(cell.key for cell in finished)
        self._teller.message(f"{names} done; {len(missing)} cells left, about {minutes:.0f} min.")

    def _sum(self, cells: Sequence[Cell]) -> float:
        return sum(units(cell, self._config) for cell in cells)


def _one_model(version: ModelVersion) -> bool:
    """Whether the model that serves the version's task is the one that is handed on."""
    return version.files[BACKBONE] == version.files[TASK_BACKBONE]


def _model(material: Material, version: ModelVersion, task: str, reading: Reading) -> tuple[Backbone, Head]:
    if reading == "per-task":
        return load_task_model(material.workspace, version)
    backbone = load_backbone(material.workspace, version)
    return backbone, load_head(material.workspace, version, chain_head(task), version.plan(task))


def _read_as(scores: TaskScores, reading: Reading) -> TaskScores:
    return scores.model_copy(update={"reading": reading})


@dataclass(frozen=True)
class CellReporter:
    """Checkpoints go into the cell's folder; what is told goes on to whoever listens, with the cell's name."""

    folder: Path
    outer: Teller
    name: str

    def plan(self, stages: Sequence[tuple[str, float]]) -> None: ...

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.outer.stage(f"{self.name}: {name}", total, done)

    def step(self, step: int, losses: Mapping[str, SupportsFloat] | None = None, *, dice: Dice | None = None) -> None:
        self.outer.step(step, losses, dice=dice)

    def message(self, text: str) -> None:
        self.outer.message(f"{self.name}: {text}")

    def warning(self, text: str) -> None:
        self.outer.warning(f"{self.name}: {text}")

    def device(self, device: str, text: str | None = None) -> None:
        self.outer.device(device, text)

    def check_cancel(self) -> None:
        self.outer.check_cancel()


class _Times:
    """Seconds that a cell has taken, over all its starts; kept in a file with a line for each start.

    A start that was killed leaves no seconds, only its line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = 0.0

    def __enter__(self) -> _Times:
        with self._path.open("a", encoding="ascii") as file:
            file.write("start\n")
        self._began = time.perf_counter()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_: object) -> None:
        peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else float("nan")
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{time.perf_counter() - self._began:.3f} {peak:.1f}\n")

    @property
    def _lines(self) -> list[str]:
        return self._path.read_text("ascii").splitlines()

    @property
    def starts(self) -> int:
        """How often the cell was begun."""
        return self._lines.count("start")

    @property
    def _ends(self) -> list[tuple[float, float]]:
        parts = (line.split() for line in self._lines if line != "start")
        return [(float(seconds), float(peak)) for seconds, peak in parts]

    @property
    def seconds(self) -> float:
        """Of all starts that ended."""
        return sum(seconds for seconds, _ in self._ends)

    @property
    def peak_mib(self) -> float | None:
        """Of memory on the GPU; None without one."""
        peak = max((peak for _, peak in self._ends), default=float("nan"))
        return None if peak != peak else peak
