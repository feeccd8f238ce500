"""Overlap of a segmentation with its reference. The metric itself is MONAI's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_dice
from numpy.typing import NDArray

from MedSeqFTLib.workspace.schema import Label


def dice_per_label(
    prediction: NDArray[np.uint8], reference: NDArray[np.uint8], labels: Sequence[Label]
) -> dict[str, float | None]:
    """Dice (0..1) of each label by name, from label values on one grid; None where the reference is empty."""
    return {label.name: _dice(prediction == label.value, reference == label.value) for label in labels}


def _dice(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float | None:
    volumes = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    value = float(compute_dice(*volumes, ignore_empty=True))
    return None if np.isnan(value) else value
