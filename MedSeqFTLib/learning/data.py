"""From the workspace's cases to what training reads: the task's plan and its prepared cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from MedSeqFTLib.imaging.cache import CaseCache, Index3, Prepared, PreparedCase, cache_key
from MedSeqFTLib.imaging.geometry import Geometry, to_canonical
from MedSeqFTLib.imaging.preprocessing import median_spacing, prepare_image, prepare_labels
from MedSeqFTLib.imaging.segmentations import read_label_map
from MedSeqFTLib.imaging.synthetic import SYNTHETIC_FORMAT, synthetic_levels
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.learning.settings import AdaptSettings, ImageGroup, PretrainSettings, SyntheticGroup
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.schema import (
    Case,
    ExpectedInput,
    Intensity,
    ModelVersion,
    Task,
    TaskPlan,
    Vector3,
)
from MedSeqFTLib.workspace.workspace import Workspace

#: Of a foundation model that declares nothing.
ANY_INPUT = ExpectedInput(intensity={}, patch=(PretrainSettings().patch_side,) * 3)


def make_plan(
    workspace: Workspace,
    task: Task,
    cases: Sequence[Case],
    parent: ModelVersion | None,
    foundation: ModelVersion | None,
    settings: AdaptSettings,
) -> TaskPlan:
    """How the task is prepared: as in the parent version if that knows the task, else as the foundation model expects.

    What the foundation model leaves open is taken from the task: its intensity rule, its cases' median voxel size.
    """
    if parent is not None and task.name in parent.plans:
        return parent.plan(task.name)
    expected = foundation.input if foundation and foundation.input else ANY_INPUT
    grids = [canonical_grid(workspace.image_path(case)) for case in cases]
    spacing = median_spacing([grid.spacing for grid in grids])
    if settings.spacing == "foundation" and expected.spacing is not None:
        spacing = expected.spacing
    intensity = task.intensity
    if settings.preparation == "foundation":
        intensity = expected.intensity.get(task.modality, intensity)
    limit = (settings.patch_side,) * 3 if settings.patch_side else expected.patch
    return TaskPlan(
        labels=task.labels,
        intensity=intensity,
        spacing=spacing,
        patch=fitting_patch(grids, spacing, limit, patch_unit(foundation)),
    )


def patch_unit(foundation: ModelVersion | None) -> int:
    """Voxels of which the sides of patches are multiples: the network's stride, and the pretext objective's unit."""
    if foundation is None:
        settings = PretrainSettings()
        return math.lcm(settings.network.stride, settings.pretext.unit)
    scored = foundation.pretext.unit if foundation.pretext and foundation.pretext.crop is None else 1
    return math.lcm(foundation.network.stride, scored)


def canonical_grid(path: Path) -> Geometry:
    """The grid of an image once its axes run towards L, P and S."""
    return Geometry.of(to_canonical(read_volume(path)))


def fitting_patch(grids: Sequence[Geometry], spacing: Vector3, limit: Index3, unit: int) -> Index3:
    """Patch size (voxels, z, y, x): at most `limit`, and no larger than the images' median extent needs, to save time.

    Every side is a multiple of `unit`, and at least one.
    """
    extent = np.median([np.multiply(grid.size, grid.spacing) for grid in grids], axis=0) / spacing
    needed = np.ceil(extent[::-1] / unit).astype(int)  # x, y, z -> z, y, x
    z, y, x = (max(1, min(largest // unit, int(units))) * unit for largest, units in zip(limit, needed, strict=True))
    return (z, y, x)


class PreparedData:
    """The prepared cases of a workspace, made once and kept on disk for later jobs."""

    def __init__(self, workspace: Workspace, each: Callable[[], None] = lambda: None) -> None:
        self._workspace = workspace
        self._cache = CaseCache(workspace.folder / "cache")
        self._each = each

    def cases(self, cases: Sequence[Case], plan: TaskPlan) -> list[PreparedCase]:
        """Labelled cases. Raises WorkspaceError if a stored file is damaged, StorageError if the disk is full."""
        return [self._case(case, plan) for case in cases]

    def images(self, group: ImageGroup | SyntheticGroup) -> list[PreparedCase]:
        """Unlabelled images. Raises InputError or GeometryError for one that cannot be used."""
        if isinstance(group, SyntheticGroup):
            return [self._synthetic(group, group.seed + number) for number in range(group.count)]
        paths = [Path(path) for path in group.images]
        spacing = group.spacing or median_spacing([canonical_grid(path).spacing for path in paths])
        return [self._image(path, group.intensity, spacing) for path in paths]

    def _case(self, case: Case, plan: TaskPlan) -> PreparedCase:
        values = [label.value for label in plan.labels]
        key = cache_key(case.image_sha256, case.segmentation_sha256, plan.intensity, plan.spacing, values)

        def prepare() -> Prepared:
            image, label_map = read_case(self._workspace, case, plan)
            return Prepared(
                prepare_image(image, plan.intensity, plan.spacing),
                prepare_labels(label_map, plan.labels, plan.spacing),
                np.array([True, *(label.name in case.label_voxels for label in plan.labels)]),
            )

        prepared = self._cache.get(key, prepare)
        self._each()
        return prepared

    def _image(self, path: Path, intensity: Intensity, spacing: Vector3) -> PreparedCase:
        key = cache_key(sha256_of(path), intensity, spacing)
        prepared = self._cache.get(key, lambda: Prepared(prepare_image(read_volume(path), intensity, spacing)))
        self._each()
        return prepared

    def _synthetic(self, group: SyntheticGroup, seed: int) -> PreparedCase:
        key = cache_key("synthetic", SYNTHETIC_FORMAT, group.modality.value, group.side, seed)
        prepared = self._cache.get(key, lambda: Prepared(synthetic_levels(group.modality, group.side, seed)))
        self._each()
        return prepared


def read_case(workspace: Workspace, case: Case, plan: TaskPlan) -> tuple[sitk.Image, sitk.Image]:
    """A case as it was accepted: image and label map (pinned values) on one grid. Raises WorkspaceError if damaged."""
    workspace.verify_case(case)
    image = read_volume(workspace.image_path(case))
    return image, read_label_map(workspace.segmentation_path(case), plan.labels, Geometry.of(image)).image
