"""What a benchmark works on: a workspace with every data set and the foundation model, made once."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cohort import make_cohort
from MedSeqFTLib.imaging.decathlon import DataSet, import_cases, read_data_set, split
from MedSeqFTLib.learning.benchmark.config import STARTER, BenchmarkConfig, BenchmarkTask
from MedSeqFTLib.learning.data import make_plan
from MedSeqFTLib.learning.importing import STARTER as STARTER_MODEL
from MedSeqFTLib.learning.importing import import_foundation, import_starter
from MedSeqFTLib.learning.progress import Teller
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.workspace.files import new_folder_atomically, sha256_of
from MedSeqFTLib.workspace.schema import Case, ModelVersion, Role, TaskPlan
from MedSeqFTLib.workspace.workspace import Workspace

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Missing:
    """A data set that cannot be used, and why."""

    task: BenchmarkTask
    reason: str


def find_data(config: BenchmarkConfig, data: Path, folder: Path) -> tuple[dict[str, DataSet], list[Missing]]:
    """Every task's data set with its files looked for, and what is missing. Nothing is read but descriptions.

    Scans that are drawn lie in `folder`, once `draw` has made them; until then they are neither found nor missing.
    """
    found: dict[str, DataSet] = {}
    missing = []
    for task in config.tasks:
        place = _place(task, data, folder)
        if task.drawn is not None and not place.exists():
            continue
        try:
            found[task.name] = read_data_set(place, task.name)
            split(found[task.name].pairs, task.train, task.held_out, task.split_seed)  # are there enough cases?
        except InputError as error:
            missing.append(Missing(task, str(error)))
    return found, missing


def draw(config: BenchmarkConfig, folder: Path, teller: Teller) -> None:
    """Make the semi-synthetic scans that the benchmark asks for. Raises StorageError."""
    for task in config.tasks:
        place = _place(task, folder, folder)
        if task.drawn is not None and not place.exists():
            teller.stage(f"draw {task.name}", task.drawn.cases)
            place.parent.mkdir(parents=True, exist_ok=True)
            with new_folder_atomically(place) as temporary:
                make_cohort(
                    temporary, task.drawn.kind, task.drawn.cases, task.drawn.seed, lambda done, _: teller.step(done)
                )


def _place(task: BenchmarkTask, data: Path, folder: Path) -> Path:
    return data / task.folder if task.folder is not None else folder / "drawn" / task.name


class Material:
    """The workspace of a benchmark: cases by role, the foundation model, and which cases a seed draws."""

    def __init__(self, config: BenchmarkConfig, workspace: Workspace, foundation: ModelVersion) -> None:
        self.config, self.workspace, self.foundation = config, workspace, foundation

    @classmethod
    def of(
        cls, config: BenchmarkConfig, data: Path, found: Mapping[str, DataSet], folder: Path, teller: Teller
    ) -> Material:
        """Import what is not there yet.

        Raises:
            InputError: a file cannot be used, or the folder holds the cases of another split.
            StorageError: the disk is full.
        """
        path = folder / WORKSPACE
        workspace = Workspace.open(path) if (path / "workspace.json").exists() else Workspace.create(path)
        for task in config.tasks:
            _import(workspace, task, found[task.name], teller)
        return cls(config, workspace, foundation_model(config, data, workspace))

    @property
    def name(self) -> str:
        """What cells are named by: the foundation model's files, and how cases are split and drawn."""
        splits = [(t.name, t.held_out, t.train, t.split_seed) for t in self.config.tasks]
        how = (self.config.measure, self.config.tuning_share) if self.config.measure == "tuning" else ("held-out",)
        return repr((sorted(self.foundation.files.items()), sorted(splits, key=lambda part: part[0]), how))

    def training_cases(self, task: str, seed: int) -> list[Case]:
        """The cases that a seed learns from."""
        pool = self._pool(task)
        count = self.config.task(task).train
        if count is None or count >= len(pool):
            return pool
        return sorted(random.Random(seed).sample(pool, count), key=lambda case: case.id)

    def measured_cases(self, task: str) -> list[Case]:
        """The cases that results are measured on: held out, or for tuning split from the training side."""
        if self.config.measure == "held-out":
            return self._sorted(task, Role.VALIDATION)
        return [case for case in self._sorted(task, Role.TRAIN) if case not in self._pool(task)]

    @cache  # noqa: B019 - one object for the whole run
    def plan(self, task: str, settings: AdaptSettings) -> TaskPlan:
        """How the task is prepared: the same for every seed and every strategy."""
        cases = self._sorted(task, Role.TRAIN)
        return make_plan(self.workspace, self.workspace.task(task), cases, None, self.foundation, settings)

    def _pool(self, task: str) -> list[Case]:
        """The training side; for tuning without the cases that are measured."""
        cases = self._sorted(task, Role.TRAIN)
        if self.config.measure == "held-out":
            return cases
        measured = max(1, round(self.config.tuning_share * len(cases)))
        kept = random.Random(self.config.task(task).split_seed + 1).sample(cases, len(cases) - measured)
        return sorted(kept, key=lambda case: case.id)

    def _sorted(self, task: str, role: Role) -> list[Case]:
        return sorted(self.workspace.cases(task, role), key=lambda case: case.id)


def _import(workspace: Workspace, task: BenchmarkTask, data_set: DataSet, teller: Teller) -> None:
    chosen = split(data_set.pairs, None, task.held_out, task.split_seed)
    stored = {t.name for t in workspace.tasks()}
    known = {case.id: case.role for case in workspace.cases(task.name)} if task.name in stored else {}
    if any(known.get(pair.case_id, role) is not role for pair, role in chosen):
        raise InputError(
            f"{workspace.folder.parent} holds the cases of {task.name} with another held_out or split_seed; "
            "results of both would mix. Take a new folder."
        )
    new = [(pair, role) for pair, role in chosen if pair.case_id not in known]
    teller.stage(f"import {task.name}", len(new))
    for done, _ in enumerate(import_cases(workspace, data_set.task, new), 1):
        teller.step(done)


def has_foundation(config: BenchmarkConfig, data: Path) -> bool:
    """Whether the file of the foundation model is there."""
    return config.foundation == STARTER or (data / config.foundation).is_file()


def foundation_model(config: BenchmarkConfig, data: Path, workspace: Workspace) -> ModelVersion:
    """M_0 of a benchmark, imported if need be. Raises InputError if its file cannot be used."""
    known = [version for version in workspace.versions() if version.kind == "foundation"]
    if config.foundation == STARTER:
        starters = [version for version in known if version.origin and version.origin.model == STARTER_MODEL]
        return starters[0] if starters else import_starter(workspace)
    path = data / config.foundation
    sha256 = sha256_of(path) if path.is_file() else None
    same = next((v for v in known if v.origin and v.origin.sha256 == sha256), None)
    return same or import_foundation(workspace, path).version
