"""From a volume to what the network sees: canonical axes, one spacing per task, intensities in -1..1.

Intensities are kept as 4096 levels in int16: finer than the noise of any scanner and small on disk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from MedSeqFTLib.imaging.geometry import resample_to_spacing, to_canonical
from MedSeqFTLib.workspace.schema import Intensity, Label, Vector3, Window, ZScore

TOP_LEVEL = 4095
LOWEST = -1.0  # network value outside the volume: what the lowest intensity becomes


def to_levels(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.int16]:
    """Clip to low..high and quantise to 0..4095. A constant volume becomes all 0."""
    if high <= low:
        return np.zeros(values.shape, np.int16)
    return np.rint((np.clip(values, low, high) - low) * (TOP_LEVEL / (high - low))).astype(np.int16)


def network_values(levels: NDArray[np.int16]) -> NDArray[np.float32]:
    """Levels 0..4095 as network input in -1..1."""
    values = levels.astype(np.float32)
    values *= np.float32(2 / TOP_LEVEL)  # in place: this runs for every crop
    values += np.float32(LOWEST)
    return values


def prepare_image(image: sitk.Image, intensity: Intensity, spacing: Vector3) -> NDArray[np.int16]:
    """Levels [z, y, x] of a volume on canonical axes at `spacing` (x, y, z in mm).

    Percentiles are taken over the volume as it was read, so that they do not depend on the spacing.
    """
    low, high = _limits(image, intensity)
    resampled = resample_to_spacing(to_canonical(image), spacing, is_label=False)
    return to_levels(sitk.GetArrayViewFromImage(resampled).astype(np.float32, copy=False), low, high)


def _limits(image: sitk.Image, intensity: Intensity) -> tuple[float, float]:
    if isinstance(intensity, Window):
        return intensity.low, intensity.high
    values = sitk.GetArrayViewFromImage(image)
    if isinstance(intensity, ZScore):
        mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        return mean + intensity.low * deviation, mean + intensity.high * deviation
    low, high = np.percentile(values, (intensity.low, intensity.high))
    return float(low), float(high)


def prepare_labels(label_map: sitk.Image, labels: Sequence[Label], spacing: Vector3) -> NDArray[np.uint8]:
    """Class indices [z, y, x], 0 background and i + 1 for labels[i], on the grid of `prepare_image`."""
    resampled = resample_to_spacing(to_canonical(label_map), spacing, is_label=True)
    classes = np.zeros(256, np.uint8)
    for index, label in enumerate(labels):
        classes[label.value] = index + 1
    return classes[sitk.GetArrayViewFromImage(resampled)]


def label_values(classes: NDArray[np.uint8], labels: Sequence[Label]) -> NDArray[np.uint8]:
    """The inverse of the class indices: pinned label values."""
    values = np.array([0, *(label.value for label in labels)], np.uint8)
    return values[classes]


def median_spacing(spacings: Sequence[Vector3]) -> Vector3:
    """Median per axis of spacings (x, y, z in mm) on canonical axes, rounded to 0.001 mm."""
    x, y, z = np.round(np.median(np.array(spacings, dtype=float), axis=0), 3)
    return (float(x), float(y), float(z))
