"""The loss around trained weights, in a random plane that is normalised filter by filter.

After Li, Xu, Taylor, Studer and Goldstein, *Visualizing the Loss Landscape of Neural Nets* (NeurIPS 2018), section 4:
with weights theta and random directions d1 and d2, f(a, b) = L(theta + a d1 + b d2), where every filter of a direction
is scaled to the norm of the same filter of theta. So a step of 1 moves each filter by its own length, and models whose
weights differ in scale can be compared. Biases, normalisation and all else with fewer than two axes do not move.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.filters import by_filter, transposed_weights

Modules = nn.Module | Mapping[str, nn.Module]
Loss = Callable[[], float]
Progress = Callable[[int, int], None]  # done, in all; may raise to cancel
Place = tuple[float, float]  # a, b
Move = Callable[[float, float], None]


@dataclass(frozen=True)
class LandscapeSettings:
    """Where the loss is measured. Lengths are in filter-normalised units.

    Attributes:
        seed: of the two directions; the same seed draws the same for every model with the same parameters.
        radius: of the circle on which sharpness is measured.
        directions: points of the circle, equally spaced from angle 0; an even number, so that what is a slope and no
            curvature cancels.
        extent: curve and grid reach from -extent to extent.
        grid: points of the grid along each axis, odd, so that the model itself is one of them.
        curve: points of the curve, odd for the same reason.

    Raises InputError.
    """

    seed: int = 0
    radius: float = 0.5
    directions: int = 16
    extent: float = 1.0
    grid: int = 11
    curve: int = 21

    def __post_init__(self) -> None:
        for name in ("grid", "curve"):
            if (points := getattr(self, name)) < 3 or points % 2 == 0:
                raise InputError(f"Loss landscape: {name} is {points}; expected an odd number of points, 3 or more.")
        if self.directions < 2 or self.directions % 2:
            raise InputError(f"Loss landscape: directions is {self.directions}; expected an even number, 2 or more.")
        for name in ("radius", "extent"):
            if not 0 < (length := getattr(self, name)) < math.inf:
                raise InputError(f"Loss landscape: {name} is {length}; expected a length above 0.")

    @property
    def grid_positions(self) -> tuple[float, ...]:
        return _positions(self.grid, self.extent)

    @property
    def curve_positions(self) -> tuple[float, ...]:
        return _positions(self.curve, self.extent)

    @property
    def circle(self) -> tuple[Place, ...]:
        """Points at `radius`, counter-clockwise."""
        angles = (2 * math.pi * k / self.directions for k in range(self.directions))
        return tuple((self.radius * math.cos(angle), self.radius * math.sin(angle)) for angle in angles)


def _positions(points: int, extent: float) -> tuple[float, ...]:
    half = points // 2
    return tuple(extent * (k / half) for k in range(-half, half + 1))


@dataclass(frozen=True)
class Landscape:
    """The loss of one model around its weights. What is not finite is kept as inf or nan.

    Attributes:
        loss: of the weights themselves.
        curve: along the first direction, at `settings.curve_positions`.
        grid: rows along b, columns along a, both at `settings.grid_positions`.
        circle: at `settings.circle`.
    """

    settings: LandscapeSettings
    loss: float
    curve: tuple[float, ...]
    grid: tuple[tuple[float, ...], ...]
    circle: tuple[float, ...]

    @property
    def rises(self) -> tuple[float, ...]:
        """By how much the loss rises from the centre to each point of the circle."""
        return tuple(loss - self.loss for loss in self.circle)

    @property
    def sharpness(self) -> float:
        """Mean rise of the loss on the circle."""
        return float(np.mean(self.rises))

    @property
    def spread(self) -> float:
        """Standard deviation of the rises on the circle: how much the choice of a direction matters in this plane."""
        with np.errstate(invalid="ignore"):  # of what is not finite, it is nan
            return float(np.std(self.rises))

    def points(self) -> Iterator[tuple[str, float, float, float]]:
        """Every measured point: part, a, b, loss."""
        yield "centre", 0.0, 0.0, self.loss
        yield from (("curve", a, 0.0, loss) for a, loss in zip(self.settings.curve_positions, self.curve, strict=True))
        for b, row in zip(self.settings.grid_positions, self.grid, strict=True):
            yield from (("grid", a, b, loss) for a, loss in zip(self.settings.grid_positions, row, strict=True))
        yield from (("circle", a, b, loss) for (a, b), loss in zip(self.settings.circle, self.circle, strict=True))


def measure_landscape(
    modules: Modules,
    loss: Loss,
    settings: LandscapeSettings | None = None,
    progress: Progress = lambda done, total: None,
) -> Landscape:
    """Measure the loss of a model around its weights.

    The weights are moved in place, one point after the other, and are afterwards what they were, bit for bit, whatever
    `loss` or `progress` raises. Besides the model, memory holds its weights three times: as they were, and as two
    directions.

    Args:
        modules: the model, or its parts by name; the names enter the random draws.
        loss: of the model as it is when called, always on the same batches; called without gradients.
        settings: by default as LandscapeSettings says.
        progress: called after each point.
    """
    settings = settings or LandscapeSettings()
    line, axis = settings.curve_positions, settings.grid_positions
    places = [(0.0, 0.0), *((a, 0.0) for a in line), *((a, b) for b in axis for a in axis), *settings.circle]
    found = dict.fromkeys(places, math.nan)  # curve and grid share points: each is measured once
    with plane(modules, settings.seed) as move, torch.no_grad():
        for done, (a, b) in enumerate(found, start=1):
            move(a, b)
            found[a, b] = float(loss())
            progress(done, len(found))
    return Landscape(
        settings,
        loss=found[0.0, 0.0],
        curve=tuple(found[a, 0.0] for a in line),
        grid=tuple(tuple(found[a, b] for a in axis) for b in axis),
        circle=tuple(found[place] for place in settings.circle),
    )


@contextmanager
def plane(modules: Modules, seed: int) -> Iterator[Move]:
    """Inside the context, `move(a, b)` puts the weights at theta + a d1 + b d2; at its end they are theta again."""
    moved = [
        (parameter, parameter.detach().clone(), *(_direction(name, parameter, transposed, seed, n) for n in (1, 2)))
        for name, parameter, transposed in _weights(modules)
    ]

    def move(a: float, b: float) -> None:
        with torch.no_grad():
            for parameter, centre, first, second in moved:
                parameter.copy_(centre).add_(first, alpha=a).add_(second, alpha=b)

    try:
        yield move
    finally:
        with torch.no_grad():
            for parameter, centre, *_ in moved:
                parameter.copy_(centre)  # not move(0, 0): that would turn -0.0 into 0.0


def random_direction(modules: Modules, seed: int, number: int) -> dict[str, Tensor]:
    """Direction 1 or 2 of a seed, by parameter name, in the shape of the weights that move."""
    weights = _weights(modules)
    return {name: _direction(name, weight, transposed, seed, number) for name, weight, transposed in weights}


def _weights(modules: Modules) -> Iterator[tuple[str, Tensor, bool]]:
    """The parameters that move: name, value, and whether output channels lie along axis 1. Shared ones come once."""
    seen: set[int] = set()
    for part, module in ({"": modules} if isinstance(modules, nn.Module) else modules).items():
        transposed = transposed_weights(module)
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1 and id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{part}.{name}".removeprefix("."), parameter, name in transposed


def _direction(name: str, weight: Tensor, transposed: bool, seed: int, number: int) -> Tensor:
    """Standard normal values that depend on seed, number, name and shape alone, each filter scaled to the weight's."""
    random = np.random.default_rng([seed, number, zlib.crc32(name.encode("utf-8"))])
    drawn = torch.from_numpy(random.standard_normal(tuple(weight.shape), np.float32)).to(weight)
    scale = _filter_norms(weight.detach(), transposed) / _filter_norms(drawn, transposed)
    return drawn * scale


def _filter_norms(weight: Tensor, transposed: bool) -> Tensor:
    """Norm of every filter, in a shape that can be multiplied with the weight."""
    norms = torch.linalg.vector_norm(by_filter(weight, transposed), dim=1)
    shape = [1] * weight.ndim
    shape[1 if transposed else 0] = -1
    return norms.view(shape)
