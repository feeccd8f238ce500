"""Pictures of segmentations: outlines on three slices of a scan, as PNG.

Slices are shown as radiologists hang them: the patient's left on the right of the picture, the nose up (axial) or to
the left (sagittal). Letters at the edges say so.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.report import Picture
from MedSeqFTLib.imaging.geometry import Geometry, require_same_grid, to_canonical
from MedSeqFTLib.workspace.schema import Label

Color = tuple[float, float, float]  # red, green, blue in 0..1
Overlay = tuple[str, NDArray[np.uint8]]  # title and label array [z, y, x]

CONVENTION = "Radiological display: the patient\u2019s left (L) is on the right of the picture."

_BACKGROUND = "#0c0f12"
_INK = "#e6e9ec"
_FAINT = "#98a2ad"
_DPI = 100
_WIDTH, _GAP, _TITLE, _LEGEND = 1280, 8, 38, 44  # pixels


@dataclass(frozen=True)
class View:
    """One of the three slice directions of an [z, y, x] array; letters stand left, right, above and below."""

    name: str
    axis: int
    letters: tuple[str, str, str, str]
    upwards: bool  # rows run from the bottom of the picture to its top


VIEWS = (
    View("axial", 0, ("R", "L", "A", "P"), False),
    View("coronal", 1, ("R", "L", "S", "I"), True),
    View("sagittal", 2, ("A", "P", "S", "I"), True),
)


def outline_panel(
    image: NDArray[Any],
    overlays: Sequence[Overlay],
    colours: Mapping[int, Color],
    spacing_zyx: tuple[float, float, float],
    names: Mapping[int, str] | None = None,
    margin: float = 25.0,
) -> bytes:
    """Axial, coronal and sagittal slices with the outlines of one label map a row, in true proportions, as PNG.

    The slices are those that show most of the structures of the last overlay (the reference), small ones counting as
    much as large ones; when it is empty, the middle slices. The picture is cut to its foreground and a margin.

    Args:
        image: [z, y, x] with axes z->S, y->P, x->L (see `imaging.geometry.to_canonical`).
        overlays: titles and label maps of the same shape, for instance before, after and reference.
        colours: of each label value to be drawn.
        spacing_zyx: mm between voxels.
        names: of label values, for a legend below.
        margin: mm shown around the reference's foreground.

    Raises:
        InputError: there is no overlay, or one of another shape than the image.
    """
    _check_shapes(image, overlays)
    reference = np.where(np.isin(overlays[-1][1], list(colours)), overlays[-1][1], 0)
    window = _window_around(reference > 0, spacing_zyx, margin)
    cut, reference = image[window], reference[window]
    places = [_best_slice(reference, view.axis) for view in VIEWS]
    limits = np.percentile(cut, (0.5, 99.7))
    layout = _Layout.of(cut.shape, spacing_zyx, rows=len(overlays), legend=bool(names))
    for row, (title, labels) in enumerate(overlays):
        layout.write_title(row, title)
        for column, (view, place) in enumerate(zip(VIEWS, places, strict=True)):
            axes = layout.axes(row, column)
            pixels, outlines = (np.take(array, place, view.axis) for array in (cut, labels[window]))
            _draw_slice(axes, pixels, limits, view.upwards)
            _draw_outlines(axes, outlines, colours)
            _write_letters(axes, view.letters)
    if names:
        layout.write_legend([(colours[value], names[value]) for value in sorted(colours) if value in names])
    return layout.png()


def case_picture(
    image: sitk.Image, overlays: Sequence[tuple[str, sitk.Image]], labels: Sequence[Label], caption: str
) -> Picture:
    """The panel of a case, of label maps on the grid of its scan, with the colours and names of the task's labels.

    Raises:
        GeometryError: a label map lies on another grid than the scan.
    """
    grid, canonical = Geometry.of(image), to_canonical(image)
    for title, label_map in overlays:
        require_same_grid(Geometry.of(label_map), grid, f"Label map {title!r}", "the scan")
    arrays = [(title, sitk.GetArrayFromImage(to_canonical(label_map))) for title, label_map in overlays]
    x, y, z = canonical.GetSpacing()
    colours = {label.value: label.color for label in labels}
    names = {label.value: label.name for label in labels}
    png = outline_panel(sitk.GetArrayFromImage(canonical), arrays, colours, (z, y, x), names)
    rows = ", ".join(title for title, _ in overlays)
    alt = f"Axial, coronal and sagittal slice with outlines of {', '.join(names.values())}. Rows: {rows}."
    return Picture(png, f"{caption} {CONVENTION}", alt)


@dataclass(frozen=True)
class _Layout:
    """Pixel positions on the figure: one column a view, one row an overlay, titles above the rows, a legend below."""

    figure: Figure
    widths: tuple[float, ...]
    heights: tuple[float, ...]  # of each view, pixels
    row_height: float

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing: tuple[float, float, float], rows: int, legend: bool) -> _Layout:
        z, y, x = (size * step for size, step in zip(shape, spacing, strict=True))
        scale = (_WIDTH - 2 * _GAP) / (x + x + y)
        widths, heights = (x * scale, x * scale, y * scale), (y * scale, z * scale, z * scale)
        row_height = max(heights) + _TITLE
        total = row_height * rows + _LEGEND * legend
        figure = Figure(figsize=(_WIDTH / _DPI, total / _DPI), dpi=_DPI, facecolor=_BACKGROUND)
        return cls(figure, widths, heights, row_height)

    @property
    def _height(self) -> float:
        return float(self.figure.get_figheight() * _DPI)

    def axes(self, row: int, column: int) -> Axes:
        """Axes of a slice, in the middle of the row's height."""
        left = sum(self.widths[:column]) + column * _GAP
        middle = (self.row_height - _TITLE - self.heights[column]) / 2
        bottom = self._height - row * self.row_height - _TITLE - middle - self.heights[column]
        box = (left / _WIDTH, bottom / self._height)
        axes = self.figure.add_axes((*box, self.widths[column] / _WIDTH, self.heights[column] / self._height))
        axes.set_axis_off()
        return axes

    def write_title(self, row: int, title: str) -> None:
        y = 1 - (row * self.row_height + _TITLE / 2) / self._height
        self.figure.text(8 / _WIDTH, y, title, color=_INK, size=15, weight="bold", va="center", parse_math=False)

    def write_legend(self, entries: Sequence[tuple[Color, str]]) -> None:
        lines = [Line2D([], [], color=color, linewidth=4, label=name.replace("_", " ")) for color, name in entries]
        self.figure.legend(
            handles=lines,
            loc="lower left",
            ncols=len(lines),
            frameon=False,
            labelcolor=_INK,
            fontsize=14,
            handlelength=1.2,
        )

    def png(self) -> bytes:
        """256 colours: a third of the size, and no difference that an eye would see on grey with few colours."""
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        target = io.BytesIO()
        picture.quantize(256, dither=Image.Dither.NONE).save(target, "png", optimize=True)
        return target.getvalue()


def _check_shapes(image: NDArray[Any], overlays: Sequence[Overlay]) -> None:
    if not overlays:
        raise InputError("An outline panel needs at least one label map.")
    for title, labels in overlays:
        if labels.shape != image.shape or image.ndim != 3:
            raise InputError(f"Label map {title!r} has shape {labels.shape}, but the image has {image.shape}.")


def _window_around(foreground: NDArray[np.bool_], spacing: Sequence[float], margin: float) -> tuple[slice, ...]:
    """The box of the foreground and the margin (mm), or everything when there is no foreground."""
    window = []
    for axis, step in enumerate(spacing):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(foreground.any(axis=others))
        border = int(np.ceil(margin / step))
        window.append(slice(max(filled[0] - border, 0), filled[-1] + border + 1) if filled.size else slice(None))
    return tuple(window)


def _best_slice(labels: NDArray[np.uint8], axis: int) -> int:
    """The slice with the largest areas of all labels together, each measured against its own largest area."""
    others = tuple(other for other in range(3) if other != axis)
    score = np.zeros(labels.shape[axis])
    for value in np.unique(labels[labels > 0]):
        area = (labels == value).sum(axis=others)
        score += area / area.max()
    return int(score.argmax()) if score.any() else labels.shape[axis] // 2


def _draw_slice(axes: Axes, pixels: NDArray[Any], limits: Sequence[float], upwards: bool) -> None:
    origin: Literal["lower", "upper"] = "lower" if upwards else "upper"
    low, high = limits
    axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, interpolation="bilinear", aspect="auto", origin=origin)


def _draw_outlines(axes: Axes, labels: NDArray[np.uint8], colours: Mapping[int, Color]) -> None:
    """Lines midway between voxels inside and outside, light on a dark seam, so that they show on any grey."""
    for value, color in sorted(colours.items()):
        inside = np.pad((labels == value).astype(np.float32), 1)
        if inside.any():
            rows, columns = (np.arange(-1, size - 1) for size in inside.shape)
            lines = axes.contour(columns, rows, inside, levels=[0.5], colors=[color], linewidths=1.7)
            lines.set_path_effects([withStroke(linewidth=3.2, foreground="#000000a0")])


def _write_letters(axes: Axes, letters: tuple[str, str, str, str]) -> None:
    places = (
        (0.015, 0.5, "left", "center"),
        (0.985, 0.5, "right", "center"),
        (0.5, 0.985, "center", "top"),
        (0.5, 0.015, "center", "bottom"),
    )
    seam = [withStroke(linewidth=2.5, foreground="#000000c0")]
    for letter, (x, y, across, along) in zip(letters, places, strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=along, color=_FAINT, size=13, path_effects=seam)
