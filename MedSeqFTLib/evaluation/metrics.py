"""How well a segmentation agrees with its reference: Dice, HD95 and NSD. The measures themselves are MONAI's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from MedSeqFTLib.workspace.schema import CaseScore, Label, Vector3

LabelMap = NDArray[np.uint8]
Box = tuple[slice, ...]
_HIGHEST_LABEL = 255
#: MONAI warns whoever passes this argument that it will go, and is itself the one that passes it.
_OWN_WARNING = ".*get_mask_edges:always_return_as_numpy"


class Agreement(NamedTuple):
    """Of one label in one case: Dice (0..1), HD95 (mm), NSD (0..1); None where a figure is not defined."""

    dice: float | None
    hd95: float | None
    nsd: float | None


_EMPTY_REFERENCE = Agreement(None, None, None)
_MISSED = Agreement(dice=0.0, hd95=None, nsd=0.0)


def measure_case(
    case_id: str,
    prediction: LabelMap,
    reference: LabelMap,
    labels: Sequence[Label],
    spacing: Vector3,
    tolerance: float,
) -> CaseScore:
    """Dice, HD95 and NSD of each label by name; what they are is told in docs/method.md.

    Surfaces are the voxels that one erosion over faces takes away; beyond the volume all is background.

    Args:
        prediction: label values, [z, y, x].
        reference: label values on the same grid.
        spacing: mm of a voxel along z, y, x.
        tolerance: mm up to which NSD counts a surface voxel as found.

    Raises:
        ValueError: the two grids differ in shape.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} must have one shape")
    boxes = [find_objects(label_map, _HIGHEST_LABEL) for label_map in (prediction, reference)]
    found: dict[str, Agreement] = {}
    for label in labels:
        predicted, referred = (of_values[label.value - 1] for of_values in boxes)
        if referred is None:
            found[label.name] = _EMPTY_REFERENCE
        elif predicted is None:
            found[label.name] = _MISSED
        else:
            box = _around(predicted, referred, reference.shape)
            masks = prediction[box] == label.value, reference[box] == label.value
            found[label.name] = _agreement(*masks, spacing, tolerance)
    return CaseScore(
        case=case_id,
        dice={name: agreement.dice for name, agreement in found.items()},
        hd95={name: agreement.hd95 for name, agreement in found.items()},
        nsd={name: agreement.nsd for name, agreement in found.items()},
    )


def _around(first: Box, second: Box, shape: tuple[int, ...]) -> Box:
    """The smallest box that holds both, and one more voxel on each side where the volume has one.

    All that is outside is background to both, so the crop saves time and changes no figure. With the voxel more, none
    depends on how a surface at the border of an array is treated, except where the volume itself ends.
    """
    return tuple(
        slice(max(0, min(one.start, other.start) - 1), min(length, max(one.stop, other.stop) + 1))
        for one, other, length in zip(first, second, shape, strict=True)
    )


def _agreement(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Vector3, tolerance: float
) -> Agreement:
    """Of two masks [z, y, x], neither of them empty."""
    masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    surfaces = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _OWN_WARNING, FutureWarning)
        return Agreement(
            dice=float(compute_dice(*masks)),
            hd95=float(compute_hausdorff_distance(*masks, percentile=95, **surfaces)),
            nsd=float(compute_surface_dice(*masks, class_thresholds=[tolerance], **surfaces)),
        )
