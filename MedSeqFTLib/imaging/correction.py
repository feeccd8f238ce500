"""What a person changed in what a model had proposed: by label, in voxels and in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import KDTree

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.schema import Correction, Label

Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]
_POINTS = 20_000  # of a surface that are looked at, regularly spaced ones


def correction(
    proposed: sitk.Image, accepted: sitk.Image, labels: Sequence[Label], confidence: float | None
) -> Correction:
    """Compare two label maps on one grid.

    Args:
        labels: those that the accepted segmentation speaks of.
        confidence: of the model in its proposal.

    Raises:
        InputError: both are empty.
    """
    before, after = (sitk.GetArrayViewFromImage(label_map) for label_map in (proposed, accepted))
    spacing = accepted.GetSpacing()[::-1]
    compared = {label.name: compare_label(before, after, label.value, spacing) for label in labels}
    if all(dice is None for dice, _ in compared.values()):
        raise InputError("The two segmentations are both empty, so they cannot be compared.")
    spoken = np.isin(before, values := [label.value for label in labels]), np.isin(after, values)
    segmented = int(np.count_nonzero(spoken[0] | spoken[1]))
    changed = int(np.count_nonzero((before != after) & (spoken[0] | spoken[1])))
    return Correction(
        confidence=confidence,
        dice={name: dice for name, (dice, _) in compared.items()},
        surface={name: distance for name, (_, distance) in compared.items()},
        changed=changed / segmented,
    )


def dice(first: Labels, second: Labels, value: int) -> float | None:
    """Dice of one value in two label maps [z, y, x]; None if neither has it."""
    a, b = first == value, second == value
    voxels = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / voxels if voxels else None


def compare_label(
    before: Labels, after: Labels, value: int, spacing: Sequence[float]
) -> tuple[float | None, float | None]:
    """Dice, and mean distance of the surfaces (mm, both ways), of one value in two label maps [z, y, x].

    Both None where neither has it; no distance where one lacks it.
    """
    first, second = _cropped(before == value, after == value)
    overlap = dice(first.view(np.uint8), second.view(np.uint8), 1)
    if not first.any() or not second.any():
        return overlap, None
    return overlap, 0.0 if overlap == 1 else _surface_distance(first, second, spacing)


def _cropped(first: Mask, second: Mask) -> tuple[Mask, Mask]:
    """To the box that holds both, and a voxel more, so that the border of the array is no border of theirs."""
    boxes = find_objects((first | second).astype(np.uint8))
    box = boxes[0] if boxes else (slice(0, 0),) * 3
    one, two = (np.pad(mask[box], 1) for mask in (first, second))
    return one, two


def _surface_distance(first: Mask, second: Mask, spacing: Sequence[float]) -> float:
    ours, theirs = (np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing) for mask in (first, second))
    there, back = (_distances(a, b) for a, b in ((ours, theirs), (theirs, ours)))
    return float((there.mean() + back.mean()) / 2)


def _distances(points: NDArray[np.float64], surface: NDArray[np.float64]) -> NDArray[np.float64]:
    """mm from each of the points, or of a part of them if they are many, to the nearest of a surface."""
    seen = points[:: max(1, len(points) // _POINTS)]
    return np.asarray(KDTree(surface).query(seen)[0])
