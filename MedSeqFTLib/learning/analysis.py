"""Analyses of versions: the loss around their weights, and how far these moved from the foundation model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.analysis_files import landscape_files, variation_files
from MedSeqFTLib.evaluation.analysis_pictures import MOST_MODELS
from MedSeqFTLib.evaluation.filters import transposed_weights
from MedSeqFTLib.evaluation.landscape import Landscape, LandscapeSettings, measure_landscape
from MedSeqFTLib.evaluation.variation import Variation, measure_variation
from MedSeqFTLib.imaging.sampling import Batch, PatchSampler
from MedSeqFTLib.learning.data import PreparedData
from MedSeqFTLib.learning.losses import segmentation_loss, with_unknown_as_background
from MedSeqFTLib.learning.preflight import version_for
from MedSeqFTLib.learning.publishing import software
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import Head
from MedSeqFTLib.models.weights import chain_head, frozen, load_backbone, load_head, load_task_model
from MedSeqFTLib.workspace.files import new_folder_atomically
from MedSeqFTLib.workspace.schema import Case, ModelVersion, Reading, Role
from MedSeqFTLib.workspace.workspace import Workspace

BATCH_SIZE: int = AdaptSettings.model_fields["batch_size"].default  # the Dice part of the loss depends on it
ModelKind = Literal["task", "chain"]
Watch = Callable[[str, int, int], None]  # what is being done, steps done, steps in all; may raise to cancel


@dataclass(frozen=True)
class FixedBatches:
    """What a loss landscape is measured on. The same batches are drawn every time, without augmentation.

    Attributes:
        role: whose cases of the task are read, all that the workspace has.
        count: of batches of two patches.
        seed: of the patches' cases and positions.
    """

    role: Role = Role.TRAIN
    count: int = 4
    seed: int = 0


def analyse_landscape(
    workspace: Workspace,
    names: Sequence[str],
    task: str,
    compute: Compute,
    *,
    reading: Reading = "per-task",
    data: FixedBatches | None = None,
    settings: LandscapeSettings | None = None,
    watch: Watch = lambda stage, done, total: None,
) -> tuple[dict[str, Landscape], dict[str, Any]]:
    """The loss of training (Dice plus cross-entropy) around the weights of versions, on the same batches of a task.

    Returns the landscapes by version, and what else their document says.

    Raises:
        InputError: a version is unknown, cannot segment the task, or has another network or preparation of it than the
            first; or there is no such case.
        WorkspaceError: a stored file is damaged.
    """
    data, settings = data or FixedBatches(), settings or LandscapeSettings()
    versions = [version_for(workspace, task, name, reading) for name in _checked(names)]
    _require_same_network(versions)
    _require_same_plan(versions, task)
    cases = workspace.cases(task, data.role)
    if not cases:
        raise InputError(f"Task {task} has no {data.role.value} case to measure the loss on.")
    batches = _batches(workspace, cases, versions[0], task, data, watch)
    found = {}
    for version in versions:
        backbone, head = _model(workspace, version, task, reading)
        backbone, head = frozen(backbone, compute.device), frozen(head, compute.device)
        found[version.id] = measure_landscape(
            {"backbone": backbone, "head": head},
            batch_loss(backbone, head, batches, compute),
            settings,
            _watched(watch, f"loss around {version.id}"),
        )
    return found, {
        "analysis": "loss landscape",
        "task": task,
        "reading": reading,
        "role": data.role.value,
        "cases": [case.id for case in cases],
        "batches": {"count": data.count, "size": BATCH_SIZE, "seed": data.seed, "patch": versions[0].plan(task).patch},
        "computed_on": str(compute),
        "software": software(),
    }


def analyse_variation(
    workspace: Workspace,
    names: Sequence[str],
    *,
    model: ModelKind = "task",
    reference: str | None = None,
    watch: Watch = lambda stage, done, total: None,
) -> tuple[dict[str, Variation], dict[str, Any]]:
    """How far the backbones of some versions lie from that of a reference.

    Args:
        model: "task" takes F_t, "chain" M_t.
        reference: the version whose M_t is compared with; by default M_0, the foundation model of each version.

    Returns the variations by version, and what else their document says.

    Raises:
        InputError: a version is unknown, is a foundation model without F_t, or has another network than the first.
        WorkspaceError: a stored file is damaged.
    """
    versions = [workspace.version(name) for name in _checked(names)]
    if model == "task" and (without := [version.id for version in versions if version.task is None]):
        raise InputError(f"{without[0]} is a foundation model: it has no model of a task. Leave it out.")
    chosen = workspace.version(reference) if reference else None
    references = {version.id: chosen or workspace.foundation_of(version) or version for version in versions}
    _require_same_network([*versions, *references.values()])
    found = {}
    for version in versions:
        backbone = load_task_model(workspace, version)[0] if model == "task" else load_backbone(workspace, version)
        found[version.id] = measure_variation(
            backbone.state_dict(),
            load_backbone(workspace, references[version.id]).state_dict(),
            transposed_weights(backbone),
            progress=_watched(watch, f"variation of {version.id}"),
        )
    return found, {
        "analysis": "parameter variation",
        "model": model,
        "reference": {name: version.id for name, version in references.items()},
        "software": software(),
    }


def save_landscapes(folder: Path, found: Mapping[str, Landscape], about: Mapping[str, Any]) -> list[str]:
    """Write landscape.json, landscape.csv, curves.png and contours.png into a new folder, all or nothing.

    Returns the names. Raises StorageError, or WorkspaceError if the folder exists.
    """
    return _save(folder, landscape_files(found, about))


def save_variations(folder: Path, found: Mapping[str, Variation], about: Mapping[str, Any]) -> list[str]:
    """Write variation.json, layers.csv, blocks.csv and variation.png into a new folder, all or nothing.

    Returns the names. Raises StorageError, or WorkspaceError if the folder exists.
    """
    return _save(folder, variation_files(found, about))


def _save(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    with new_folder_atomically(folder) as temporary:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
    return list(files)


def batch_loss(backbone: Backbone, head: Head, batches: Sequence[Batch], compute: Compute) -> Callable[[], float]:
    """The mean loss of stage A's segmentation part on some batches, each time of the weights as they then are."""
    loss = segmentation_loss()
    placed = [(batch.image.to(compute.device), batch.labels.to(compute.device), batch.known) for batch in batches]

    def one(image: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> float:
        with compute.autocast():
            logits = head(backbone(image))
        return float(loss(with_unknown_as_background(logits.float(), known.to(compute.device)), labels))

    return lambda: sum(one(*batch) for batch in placed) / len(placed)


def _checked(names: Sequence[str]) -> Sequence[str]:
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"Version {repeated[0]} is named twice.")
    if not 1 <= len(names) <= MOST_MODELS:
        raise InputError(f"Name 1 to {MOST_MODELS} versions to compare, not {len(names)}.")
    return names


def _require_same_network(versions: Sequence[ModelVersion]) -> None:
    first = versions[0]
    for version in versions:
        if version.network != first.network:
            kinds = f"{first.network.kind} and {version.network.kind}"
            raise InputError(f"{first.id} and {version.id} have different networks ({kinds}): they cannot be compared.")


def _require_same_plan(versions: Sequence[ModelVersion], task: str) -> None:
    first = versions[0]
    for version in versions:
        plan, other = first.plan(task).model_dump(), version.plan(task).model_dump()
        if different := [field for field in plan if plan[field] != other[field]]:
            raise InputError(
                f"{first.id} and {version.id} prepare task {task} differently ({', '.join(different)}): their losses "
                "cannot be measured on the same batches."
            )


def _batches(
    workspace: Workspace, cases: Sequence[Case], version: ModelVersion, task: str, data: FixedBatches, watch: Watch
) -> list[Batch]:
    plan, done = version.plan(task), 0

    def one_more() -> None:
        nonlocal done
        done += 1
        watch("preparing cases", done, len(cases))

    prepared = PreparedData(workspace, one_more).cases(cases, plan)
    sampler = PatchSampler(prepared, plan.patch, BATCH_SIZE, data.seed, augment=False)
    return [sampler.batch(step) for step in range(data.count)]


def _model(workspace: Workspace, version: ModelVersion, task: str, reading: Reading) -> tuple[Backbone, Head]:
    if reading == "per-task":
        return load_task_model(workspace, version)
    head = load_head(workspace, version, chain_head(task), version.plan(task))
    return load_backbone(workspace, version), head


def _watched(watch: Watch, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: watch(stage, done, total)
