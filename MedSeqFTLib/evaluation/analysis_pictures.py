"""Pictures of loss landscapes and of parameter variation, for one to six models, as PNG.

The same data give the same bytes. The colours are those of Okabe and Ito, which can be told apart with any colour
vision; curves differ in their dashes, too.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Circle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray
from PIL import Image

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.landscape import Landscape
from MedSeqFTLib.evaluation.variation import BlockVariation, Variation

MOST_MODELS = 6

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 2)), (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)))
_INK, _FAINT = "#22272c", "#d4d8dc"
_DPI = 130
_LEVELS = 14  # contour levels, about
_LOG_BEYOND = 10.0  # largest loss as a multiple of the smallest
_COLUMNS = 3  # contour pictures side by side
_SHORT = FuncFormatter(lambda value, _: f"{value:.3g}")


def curve_picture(landscapes: Mapping[str, Landscape]) -> bytes:
    """The loss along the first direction, all models in one picture. Raises InputError for none or more than six."""
    _check_count(landscapes)
    figure = Figure(figsize=(7.2, 4.4), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    for (name, landscape), color, dash in zip(landscapes.items(), _COLOURS, _DASHES, strict=False):
        line = np.array(landscape.curve)
        axes.plot(landscape.settings.curve_positions, line, color=color, linestyle=dash, linewidth=2, label=name)
    _scale_losses(axes, np.concatenate([landscape.curve for landscape in landscapes.values()]))
    axes.set_xlabel("step along the first direction (1: every filter by its own norm)")
    axes.set_ylabel("loss")
    _plain(axes)
    axes.grid(color=_FAINT, linewidth=0.7)
    _write_legend(axes)
    return _png(figure)


def contour_picture(landscapes: Mapping[str, Landscape]) -> bytes:
    """The loss in the plane, models side by side with the same levels and colours.

    The cross is the model, the dashed circle is where sharpness was measured. Raises InputError for none or more than
    six models.
    """
    _check_count(landscapes)
    columns = min(len(landscapes), _COLUMNS) if len(landscapes) != 4 else 2
    rows = -(-len(landscapes) // columns)
    figure = Figure(
        figsize=(3.5 * columns + 1.0, 3.7 * rows + 0.3), dpi=_DPI, layout=ConstrainedLayoutEngine(wspace=0.07)
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    levels, norm = _levels(np.concatenate([np.ravel(landscape.grid) for landscape in landscapes.values()]))
    for number, (name, landscape) in enumerate(landscapes.items()):
        _draw_contours(panels.flat[number], name, landscape, levels, norm)
    for number, axes in enumerate(panels.flat):
        axes.set_visible(number < len(landscapes))
    figure.supxlabel("step along the first direction", size=10, color=_INK)
    figure.supylabel("step along the second direction", size=10, color=_INK)
    ticks = _round_values(levels[0], levels[-1]) if isinstance(norm, LogNorm) else list(levels[::2])
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=panels, ticks=ticks, format=_SHORT, shrink=0.95, pad=0.02)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_label("loss", color=_INK)
    return _png(figure)


def variation_picture(variations: Mapping[str, Variation]) -> bytes:
    """How far each block moved, and in how many dimensions, as bars for all models.

    Raises InputError for none or more than six models, or for models of different networks.
    """
    _check_count(variations)
    blocks = {name: variation.blocks for name, variation in variations.items()}
    names = [block.block for block in next(iter(blocks.values()))]
    if any([block.block for block in found] != names for found in blocks.values()):
        raise InputError("Parameter variation: the models in one picture must have the same network.")
    height = len(names) * (0.1 * len(blocks) + 0.2) + 1.2
    figure = Figure(figsize=(9.4, height), dpi=_DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_bars(left, names, blocks, lambda block: block.relative)
    _draw_bars(right, names, blocks, lambda block: block.effective_rank_share)
    left.set_xlabel("change / norm before")
    right.set_xlabel("effective rank of the change / full rank")
    right.tick_params(left=False)
    handles, labels = left.get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, labelcolor=_INK
    )
    _write_plainly(legend.get_texts())
    return _png(figure)


def _check_count(models: Mapping[str, Any]) -> None:
    if not 1 <= len(models) <= MOST_MODELS:
        raise InputError(f"A picture shows 1 to {MOST_MODELS} models, got {len(models)}.")


# curves and contours


def _is_wide(finite: NDArray[np.float64]) -> bool:
    """Whether equal steps of loss would hide what lies near the minimum."""
    return bool(finite.min() > 0 and finite.max() > _LOG_BEYOND * finite.min())


def _finite(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The finite losses, which span a range even where they are all the same."""
    finite = losses[np.isfinite(losses)]
    if not finite.size:
        return np.array([0.0, 1.0])
    return finite if np.ptp(finite) > 0 else np.array([finite[0], finite[0] + max(abs(finite[0]), 1.0) * 1e-3])


def _scale_losses(axes: Axes, losses: NDArray[np.float64]) -> None:
    finite = _finite(losses)
    if _is_wide(finite):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(_round_values(finite.min(), finite.max())))
        axes.yaxis.set_major_formatter(_SHORT)
        axes.yaxis.set_minor_locator(NullLocator())


def _round_values(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, as far as they lie between low and high."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [value for power in powers for digit in (1, 2, 5) if low <= (value := digit * 10.0**power) <= high]


def _levels(losses: NDArray[np.float64]) -> tuple[NDArray[np.float64], Normalize]:
    """Contour levels and the colour scale between the first and the last of them."""
    finite = _finite(losses)
    low, high = float(finite.min()), float(finite.max())
    if _is_wide(finite):
        levels = np.geomspace(low, high, _LEVELS + 1)
        return levels, LogNorm(levels[0], levels[-1])
    levels = np.asarray(MaxNLocator(_LEVELS).tick_values(low, high), float)
    return levels, Normalize(levels[0], levels[-1])


def _draw_contours(axes: Axes, name: str, landscape: Landscape, levels: NDArray[np.float64], norm: Normalize) -> None:
    positions = landscape.settings.grid_positions
    losses = np.ma.masked_invalid(landscape.grid)
    axes.contourf(positions, positions, losses, levels, norm=norm, cmap="viridis", extend="both")
    axes.contour(positions, positions, losses, levels, colors="white", linewidths=0.5, alpha=0.7)
    axes.plot(0, 0, marker="+", color="white", markersize=9, markeredgewidth=1.8)
    axes.add_patch(Circle((0, 0), landscape.settings.radius, fill=False, color="white", linestyle="--", linewidth=1.2))
    axes.set_title(f"{name}\nsharpness {landscape.sharpness:.3g}", size=11, color=_INK, parse_math=False)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    _plain(axes)


# bars


def _draw_bars(
    axes: Axes,
    names: Sequence[str],
    models: Mapping[str, Sequence[BlockVariation]],
    value: Callable[[BlockVariation], float | None],
) -> None:
    """Groups of bars, the first block at the top. Nothing is drawn where there is no value."""
    step = 0.8 / len(models)
    places = np.arange(len(names))
    for number, ((model, blocks), color) in enumerate(zip(models.items(), _COLOURS, strict=False)):
        widths = [value(block) or 0.0 for block in blocks]
        axes.barh(places - 0.4 + step * (number + 0.5), widths, 0.92 * step, color=color, label=model)
    axes.set_yticks(places, _short_names(names))
    _write_plainly(axes.get_yticklabels())
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    _plain(axes)
    axes.tick_params(axis="y", length=0)


def _short_names(names: Sequence[str]) -> list[str]:
    """Names without the components that all of them begin with."""
    parts = [name.split(".") for name in names]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return [".".join(part[shared:]) for part in parts]


# all pictures


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#8a9199")
    axes.tick_params(colors=_INK, labelsize=9)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)


def _write_legend(axes: Axes) -> None:
    legend = axes.legend(frameon=False, labelcolor=_INK, handlelength=3.2)
    _write_plainly(legend.get_texts())


def _write_plainly(texts: Sequence[Any]) -> None:
    """A dollar sign in a name is a dollar sign."""
    for text in texts:
        text.set_parse_math(False)


def _png(figure: Figure) -> bytes:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    target = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(target, "png")
    return target.getvalue()
