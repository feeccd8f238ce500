"""One semi-synthetic MR scan: the head of `anatomy`, bent into another person and seen by another scanner.

Arrays are [z, y, x] with axes z->S, y->P, x->L before the scan is turned to its final axes; lengths are mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from MedSeqFTLib.imaging.anatomy import Anatomy, Array

CENTRE = (9.0, 17.0, 0.0)  # middle of the field of view in the template, mm z, y, x
FIELD_OF_VIEW = (172.0, 212.0, 176.0)  # mm z, y, x
INJECTIVE = 0.4  # a cubic B-spline with coefficients below 0.4 node spacings cannot fold (Choi and Lee, 2000)


@dataclass(frozen=True)
class Grid:
    """Voxel grid of a scan: size and spacing z, y, x; `turn` [3, 3] maps grid axes to patient axes, both z, y, x."""

    size: tuple[int, int, int]
    spacing: Array
    turn: NDArray[np.float64]

    def places(self) -> Array:
        """mm from the middle of the grid along patient axes, [3, z, y, x]."""
        axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(self.size, self.spacing, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
        result: Array = (self.turn @ points).astype(np.float32).reshape((3, *self.size))
        return result


@dataclass(frozen=True)
class Contrast:
    """Mean signal of each tissue (white matter of T1 is near 0.9) and the sign and strength of T1's inner detail."""

    signals: dict[str, float]
    detail: float


T1 = Contrast(
    dict(grey=0.63, white=0.88, fluid=0.22, bone=0.07, marrow=0.55, fat=1.05, muscle=0.45, eye=0.22), detail=1.0
)
T2 = Contrast(
    dict(grey=0.66, white=0.40, fluid=1.05, bone=0.06, marrow=0.36, fat=0.62, muscle=0.20, eye=1.0), detail=-0.8
)


def draw_grid(rng: np.random.Generator) -> Grid:
    """A scanner's choice: slices of 3.0 to 3.5 mm across one axis, 2.5 to 3.0 mm within them, oblique."""
    spacing = np.full(3, rng.uniform(2.5, 3.0))
    spacing[rng.integers(3)] = rng.uniform(3.0, 3.5)
    spacing = np.round(spacing, 3).astype(np.float32)
    extent = np.array(FIELD_OF_VIEW) * rng.uniform(0.98, 1.04)
    size = tuple(int(n) for n in np.ceil(extent / spacing))
    turn = Rotation.from_euler("xyz", rng.uniform(-12, 12, 3), degrees=True).as_matrix()
    return Grid((size[0], size[1], size[2]), spacing, turn)


def draw_person(anatomy: Anatomy, grid: Grid, rng: np.random.Generator) -> Array:
    """Where in the template each voxel of the grid lies, mm [3, z, y, x]: pose, head size, shape and ventricle size.

    The map is one-to-one: no structure is torn or folded.
    """
    pose = Rotation.from_euler("xyz", rng.uniform(-4, 4, 3), degrees=True).as_matrix()
    scale = rng.uniform(0.95, 1.06) * rng.uniform(0.97, 1.03, 3)
    points = np.tensordot((pose / scale[:, None]).astype(np.float32), grid.places(), axes=1)
    points += np.array(CENTRE, dtype=np.float32)[:, None, None, None]
    ventricles = anatomy.sample_inward(points) * rng.uniform(-1.5, 4.0)
    points += smooth_noise(grid, 40, 4.0, rng, 3) + smooth_noise(grid, 20, 1.2, rng, 3)
    result: Array = points + ventricles
    return result


def smooth_noise(grid: Grid, node: float, deviation: float, rng: np.random.Generator, count: int) -> Array:
    """Random cubic B-splines [count, z, y, x] with nodes every `node` mm and coefficients of this standard deviation.

    Coefficients stay below INJECTIVE nodes, so that one such field alone, as a displacement in mm, cannot fold.
    """
    bases = [_basis(n, step / node) for n, step in zip(grid.size, grid.spacing, strict=True)]
    nodes = tuple(basis.shape[1] for basis in bases)
    coefficients = np.clip(rng.normal(0, deviation, (count, *nodes)), -INJECTIVE * node, INJECTIVE * node)
    result: Array = np.einsum("cijk,zi,yj,xk->czyx", coefficients.astype(np.float32), *bases, optimize=True)
    return result


def _basis(samples: int, step: float) -> Array:
    """Values [samples, nodes] of the cubic B-splines at positions 0, step, 2 step ... in units of nodes."""
    positions = np.arange(samples) * step
    distance = np.abs(positions[:, None] - (np.arange(int(positions[-1]) + 4) - 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    result: Array = np.where(distance < 1, near, far).astype(np.float32)
    return result


def jacobian(points: Array) -> Array:
    """Determinant [z, y, x] of a map [3, z, y, x] over voxel steps; positive where orientation is kept."""
    slopes = np.stack([np.stack(np.gradient(part)) for part in points])
    result: Array = np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)))
    return result


def mix_tissues(anatomy: Anatomy, grid: Grid, points: Array, rng: np.random.Generator) -> dict[str, Array]:
    """Share of each tissue in each voxel, 0..1, and `detail` and `ventricle` (a part of `fluid`); the rest is air."""
    maps = anatomy.sample(points)
    gap, skull, scalp = rng.uniform((0.5, 5.0, 4.5), (3.0, 8.0, 8.5)).tolist()
    depth = maps["depth"] + smooth_noise(grid, 30, 0.8, rng, 1)[0] - gap
    outer = np.minimum(depth - (skull + scalp), maps["column"] - (gap + skull + scalp))
    head, cavity = _step(-outer), _step(-depth)
    eye = _step(-maps["eyes"]) * head * (1 - cavity)
    bone = np.clip(head - cavity - eye, 0, 1) * _step(skull - depth)
    soft = np.clip(head - cavity - eye - bone, 0, 1)
    marrow = bone * np.clip(1.2 - np.abs(depth / skull - 0.5) * 3.5, 0, 0.9)
    air, fat = _fillings(grid, outer, rng)
    return {
        "grey": maps["grey"],
        "white": maps["white"],
        "fluid": np.clip(cavity - maps["grey"] - maps["white"], 0, 1),
        "bone": bone - marrow,
        "marrow": marrow,
        "fat": soft * (1 - air) * fat,
        "muscle": soft * (1 - air) * (1 - fat),
        "eye": eye,
        "detail": maps["detail"],
        "ventricle": maps["ventricle"],
    }


def _fillings(grid: Grid, outer: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Share of air (sinuses, deep only) and of fat (skin and lobules) within soft tissue."""
    lobules, sinuses = smooth_noise(grid, 11, 1.0, rng, 2)
    deep = _step(-outer - 14)
    return deep * _step(sinuses * 4 - 2.0), np.clip(_step(outer + 4) + _step(lobules * 3 - 0.5), 0, 1)


def _step(distance: Array) -> Array:
    """0 below, 1 above zero, over 3 mm: the partial volume of a voxel cut by a surface."""
    return np.clip(distance / 3 + 0.5, 0, 1)


def scan(tissues: dict[str, Array], contrast: Contrast, grid: Grid, rng: np.random.Generator) -> NDArray[np.int16]:
    """What the scanner shows: tissue signals, bias field, Rician noise and an arbitrary gain, int16."""
    signal = contrast.detail * rng.uniform(0.7, 1.2) * tissues["detail"]
    for tissue, mean in contrast.signals.items():
        signal = signal + mean * math.exp(rng.normal(0, 0.05)) * tissues[tissue]
    bias = np.exp(smooth_noise(grid, 90, rng.uniform(0.05, 0.22), rng, 1)[0])
    noise = rng.normal(0, rng.uniform(0.012, 0.04), (2, *grid.size)).astype(np.float32)
    measured = np.hypot(np.clip(signal, 0, None) * bias + noise[0], noise[1])
    result: NDArray[np.int16] = np.clip(np.rint(measured * rng.uniform(250, 1400)), 0, 32767).astype(np.int16)
    return result
