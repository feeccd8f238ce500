"""How the pictures of a comparison look on a light and on a dark page. Colours are those of templates/report.css.

Lengths are pixels of the page, from its top left; a PNG has twice as many, for sharp screens. The same data give the
same bytes.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

WIDTH = 1176  # of the page's text
LETTER = 8.0  # width that is reserved for a letter
ROW = 22  # height of a line of text
FONT, SMALL = 9.5, 8.5  # points; 13 and 12 pixels
_PIXELS_PER_INCH = 100
_SHARPNESS = 2
_MARKERS = "osD^vPX"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
#: Names are text, never formulas; the font is the one that comes with matplotlib.
_SETTINGS: dict[Any, Any] = {"text.parse_math": False, "font.family": ["DejaVu Sans"], "font.size": FONT}


@dataclass(frozen=True)
class Theme:
    """Colours of one kind of page."""

    page: str
    ink: str
    faint: str
    rule: str
    better: str
    worse: str
    lines: tuple[str, ...]


LIGHT = Theme(
    page="#fbfbfa",
    ink="#1a2027",
    faint="#6b7681",
    rule="#e2e5e8",
    better="#0a7a55",
    worse="#b3401a",
    lines=("#0b6e8a", "#c2571a", "#6a53b5", "#0a7a55", "#b03a72", "#77653a"),
)
DARK = Theme(
    page="#0f1317",
    ink="#e8ebee",
    faint="#8b96a1",
    rule="#29313a",
    better="#54d0a0",
    worse="#ff9a6e",
    lines=("#5cc3df", "#ffa866", "#b3a2ff", "#54d0a0", "#f58cbd", "#d3c08a"),
)


@dataclass(frozen=True)
class Chart:
    """A picture for a light and for a dark page. `name` is that of its file; `alt` is for readers who cannot see it."""

    name: str
    title: str
    caption: str
    alt: str
    width: int
    height: int
    light: bytes
    dark: bytes


@dataclass(frozen=True)
class Canvas:
    """A figure on which axes and text are placed by pixels from the top left."""

    figure: Figure
    theme: Theme
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without a frame, with faint ticks."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box, facecolor="none")
        axes.tick_params(length=0, pad=6, colors=self.theme.faint, labelsize=SMALL)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def write(self, left: float, top: float, text: str, **looks: Any) -> None:
        """Text whose vertical middle is at `top`."""
        looks = {"color": self.theme.ink, "size": FONT, "va": "center", **looks}
        self.figure.text(left / self.width, 1 - top / self.height, text, **looks)

    def legend(self, top: float, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Names of lines in columns below `top`; see `legend_rows` for its height."""
        columns = _legend_columns([name for name, _ in entries], self.width)
        for number, (name, looks) in enumerate(entries):
            left = number % columns * self.width / columns
            y = 1 - (top + (number // columns + 0.5) * ROW) / self.height
            xs = [(left + offset) / self.width for offset in (2, 22, 42)]
            self.figure.add_artist(Line2D(xs, [y] * 3, markevery=[1], transform=self.figure.transFigure, **looks))
            self.write(left + 52, top + (number // columns + 0.5) * ROW, name, size=SMALL)


def draw(width: float, height: float, paint: Callable[[Canvas], None]) -> tuple[bytes, bytes]:
    """The same picture for a light and for a dark page, as PNG."""
    light, dark = (_png(theme, width, height, paint) for theme in (LIGHT, DARK))
    return light, dark


def _png(theme: Theme, width: float, height: float, paint: Callable[[Canvas], None]) -> bytes:
    """256 colours: a third of the size, and no difference that an eye would see."""
    with rc_context():
        rcdefaults()  # what the user has set does not matter here
        rcParams.update(_SETTINGS)
        size = (width / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH)
        figure = Figure(figsize=size, dpi=_PIXELS_PER_INCH * _SHARPNESS, facecolor=theme.page)
        paint(Canvas(figure, theme, width, height))
        agg = FigureCanvasAgg(figure)
        agg.draw()
    picture = Image.fromarray(np.asarray(agg.buffer_rgba())[..., :3])
    target = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(target, "png", optimize=True)
    return target.getvalue()


def line_looks(theme: Theme, number: int) -> dict[str, Any]:
    """How the line of a strategy or task is drawn: colour, marker and dashes tell lines apart without colour too."""
    colours = len(theme.lines)
    return {
        "color": theme.lines[number % colours],
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 4.5,
        "linewidth": 1.6,
        "linestyle": _DASHES[number // colours % len(_DASHES)],
    }


def legend_rows(names: Sequence[str], width: float = WIDTH) -> int:
    """Lines that a legend of these names takes."""
    return math.ceil(len(names) / _legend_columns(names, width))


def _legend_columns(names: Sequence[str], width: float) -> int:
    return max(1, min(len(names), int(width // (max(map(len, names), default=1) * LETTER + 68))))


def plain(name: str) -> str:
    """The name of a task as it is shown."""
    return name.replace("_", " ")


def wrapped(name: str, letters: int) -> str:
    """A name in at most two lines of so many letters."""
    lines = textwrap.wrap(name, letters) or [""]
    return "\n".join([*lines[:1], *([shortened(" ".join(lines[1:]), letters)] if lines[1:] else [])])


def shortened(name: str, letters: int) -> str:
    """A name cut to so many letters."""
    return name if len(name) <= letters else name[: max(letters - 1, 1)].rstrip() + "\u2026"
