"""Synthetic images for pre-training: random bodies with organs, vessels and shells, as CT or MR would show them.

They are no anatomy at all: shapes and contrasts are drawn at random, so that a network learns edges, textures, noise
and bias fields without any patient. Arrays are [z, y, x]; lengths are voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from MedSeqFTLib.imaging.phantom import Grid, smooth_noise
from MedSeqFTLib.imaging.preprocessing import to_levels
from MedSeqFTLib.workspace.schema import Modality, Percentile, Window

SYNTHETIC_FORMAT = 1  # changes whenever the same seed gives another image
Array = NDArray[np.float32]

#: HU: mean of a tissue is drawn from a range, each range as often as its weight says.
_TISSUES = ((-900, -700, 1), (-120, -60, 3), (-10, 30, 2), (30, 80, 6), (100, 300, 2), (300, 1000, 2))
_AIR = -1000.0


def synthetic_levels(modality: Modality, side: int, seed: int) -> NDArray[np.int16]:
    """One image as levels 0..4095, int16 [side, side, side]; the same arguments give the same image."""
    rng = np.random.default_rng([seed, list(Modality).index(modality)])
    grid = Grid((side, side, side), np.ones(3, np.float32), np.eye(3))
    inside, regions = _regions(grid, rng)
    if modality is Modality.CT:
        window = Window()
        return to_levels(_ct(grid, inside, regions, rng), window.low, window.high)
    signal, limits = _mr(grid, inside, regions, rng), Percentile()
    low, high = np.percentile(signal, (limits.low, limits.high))
    return to_levels(signal, float(low), float(high))


def _regions(grid: Grid, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Where the body is, and the region that each voxel belongs to."""
    side = grid.size[0]
    centre = side * rng.uniform(0.3, 0.7, 3)
    radii = side * rng.uniform(0.35, 0.8, 3)
    places = np.indices(grid.size, dtype=np.float32)
    offsets = (places - centre[:, None, None, None].astype(np.float32)) / radii[:, None, None, None].astype(np.float32)
    depth = 1 - np.sqrt((offsets**2).sum(0)) + smooth_noise(grid, side / 4, 0.12, rng, 1)[0]
    fields = smooth_noise(grid, side * rng.uniform(0.12, 0.3), 1.0, rng, int(rng.integers(4, 10)))
    regions = fields.argmax(0)
    count = len(fields)
    for _ in range(rng.integers(3, 12)):
        regions[_organ(grid, places, rng)] = count
        count += 1
    for tubes in smooth_noise(grid, side * rng.uniform(0.1, 0.2), 1.0, rng, 2 * int(rng.integers(1, 3))).reshape(
        -1, 2, *grid.size
    ):  # two surfaces cross along lines: vessels
        regions[np.hypot(*tubes) < rng.uniform(0.08, 0.2)] = count
        count += 1
    skin = rng.uniform(0.02, 0.08)
    regions[(depth > 0) & (depth < skin)] = count
    if rng.random() < 0.5:  # a shell like the skull
        regions[(depth > 2 * skin) & (depth < 2 * skin + rng.uniform(0.03, 0.1))] = count + 1
    return depth > 0, regions


def _organ(grid: Grid, places: Array, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A bent ellipsoid."""
    side = grid.size[0]
    centre, radii = side * rng.uniform(0.1, 0.9, 3), side * rng.uniform(0.04, 0.22, 3)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] / radii[:, None]
    offsets = np.tensordot(turn.astype(np.float32), places - centre[:, None, None, None].astype(np.float32), axes=1)
    bend = smooth_noise(grid, side / 5, 0.2, rng, 1)[0]
    inside: NDArray[np.bool_] = np.sqrt((offsets**2).sum(0)) + bend < 1
    return inside


def _ct(
    grid: Grid, inside: NDArray[np.bool_], regions: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """HU."""
    weights = np.array([weight for *_, weight in _TISSUES], float)
    kinds = rng.choice(len(_TISSUES), int(regions.max()) + 1, p=weights / weights.sum())
    means = np.array([rng.uniform(*_TISSUES[kind][:2]) for kind in kinds], np.float32)
    texture = smooth_noise(grid, rng.uniform(2, 6), rng.uniform(2, 25), rng, 1)[0]
    values = np.where(inside, means[regions] + texture, _AIR).astype(np.float32)
    blurred = gaussian_filter(values, rng.uniform(0.3, 0.9, 3))
    return blurred + _noise(grid, rng.uniform(3, 40), rng)


def _mr(
    grid: Grid, inside: NDArray[np.bool_], regions: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Signal in arbitrary units, with bias field and Rician noise."""
    means = rng.uniform(0.05, 1.0, int(regions.max()) + 1).astype(np.float32)
    texture = smooth_noise(grid, rng.uniform(2, 6), rng.uniform(0.01, 0.06), rng, 1)[0]
    values = np.where(inside, np.clip(means[regions] + texture, 0, None), 0).astype(np.float32)
    values = gaussian_filter(values, rng.uniform(0.3, 0.9, 3))
    bias = np.exp(smooth_noise(grid, grid.size[0] / 2, rng.uniform(0.05, 0.3), rng, 1)[0])
    deviation = rng.uniform(0.01, 0.06)
    measured: Array = np.hypot(values * bias + _noise(grid, deviation, rng), _noise(grid, deviation, rng))
    return measured


def _noise(grid: Grid, deviation: float, rng: np.random.Generator) -> Array:
    noise: Array = (deviation * rng.standard_normal(grid.size, np.float32)).astype(np.float32)
    return noise
