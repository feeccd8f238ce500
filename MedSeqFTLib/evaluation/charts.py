"""Charts of a report as SVG text that takes its colours and font from the page: right in light and dark alike.

Classes used: `muted`, `grid`, `line-0` ... `line-5` for the curves, `kept`, `left-out` and `tie` for a buffer,
`better`, `worse` and `same` for changes of Dice. `templates/report.css` gives them their looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.etree import ElementTree

Point = tuple[float, float]
LossPoint = tuple[int, Mapping[str, float]]  # step, {loss name: value}

CURVE_COLOURS = 6
_MOST_POINTS = 240  # of a curve; longer ones are averaged in bins


def change_class(before: float | None, after: float | None) -> str:
    """better, worse or same, judged on the three decimals that are shown."""
    if before is None or after is None:
        return "same"
    change = round(after, 3) - round(before, 3)
    return "better" if change > 0 else "worse" if change < 0 else "same"


def dice_chart(before: float | None, after: float | None, low: float) -> str:
    """One row of a dumbbell plot from `low` to 1: an open dot before, a filled dot after, a bar between them."""
    drawing = Drawing(240, 20, _dice_words(before, after))
    x = Scale(low, 1.0, 8, 232)
    drawing.line((8, 10), (232, 10), "grid")
    for tick in (low, (low + 1) / 2, 1.0):
        drawing.line((x(tick), 6), (x(tick), 14), "grid")
    change = change_class(before, after)
    if before is not None and after is not None:
        drawing.line((x(before), 10), (x(after), 10), f"bar {change}")
    if before is not None:
        drawing.dot((x(before), 10), 4.5, "before")
    if after is not None:
        drawing.dot((x(after), 10), 5.5, f"after {change}")
    return drawing.text()


def _dice_words(before: float | None, after: float | None) -> str:
    parts = [f"{word} {value:.3f}" for word, value in (("before", before), ("after", after)) if value is not None]
    return "Dice " + ", ".join(parts) if parts else "Dice not measured"


def loss_names(losses: Mapping[str, Sequence[LossPoint]]) -> list[str]:
    """Names of all losses of a run in order of appearance; a loss has the same colour in every stage."""
    return list(dict.fromkeys(name for points in losses.values() for _, values in points for name in values))


def loss_style(name: str, names: Sequence[str]) -> str:
    """The class that colours this loss."""
    return f"line-{names.index(name) % CURVE_COLOURS}"


def loss_chart(stage: str, points: Sequence[LossPoint], names: Sequence[str]) -> str:
    """Losses of one stage over its steps: pale as measured, strong as running mean.

    The axis is logarithmic where a linear one would hide a curve. Values that are not finite are left out.
    """
    curves = _curves(points)
    drawing = Drawing(520, 230, f"Losses of {stage}: " + "; ".join(_curve_words(*curve) for curve in curves.items()))
    if not curves:
        drawing.write((260, 115), "no losses were recorded", "muted", "middle")
        return drawing.text()
    everything = [point for curve in curves.values() for point in curve]
    y = _value_scale([value for _, value in everything])
    x = Scale(min(step for step, _ in everything), max(step for step, _ in everything), 46, 512)
    _draw_axes(drawing, x, y)
    for name, curve in curves.items():
        for part, weight in ((curve, "pale"), (_smoothed(curve), "")):
            drawing.path([(x(step), y(value)) for step, value in part], f"{loss_style(name, names)} {weight}".strip())
    return drawing.text()


def last_losses(points: Sequence[LossPoint]) -> list[tuple[str, str]]:
    """Name and last running mean of every loss, for the legend."""
    return [(name, short(_smoothed(curve)[-1][1])) for name, curve in _curves(points).items()]


def _draw_axes(drawing: Drawing, x: Scale, y: Scale) -> None:
    for tick in y.ticks():
        drawing.line((x.start, y(tick)), (x.end, y(tick)), "grid")
        drawing.write((x.start - 6, y(tick) + 4), short(tick), "muted", "end")
    for tick in x.ticks():
        drawing.write((x(tick), y.start + 22), short(tick), "muted", "middle")


class ScoredCase(NamedTuple):
    """A case of a selection. `interval`: of the mean, 95 %; `tie`: too close to the border to be decided surely."""

    case: str
    mean: float
    interval: tuple[float, float]
    kept: bool
    tie: bool = False


def selection_chart(rows: Sequence[ScoredCase]) -> str:
    """Pretext loss of every case, lowest first, with its 95 % interval; dashed where the decision was a tie."""
    ordered = sorted(rows, key=lambda row: row.mean)
    drawing = Drawing(1040, 210, _selection_words(rows))
    if not ordered:
        drawing.write((520, 105), "no case was scored", "muted", "middle")
        return drawing.text()
    y = Scale(min(row.interval[0] for row in rows), max(row.interval[1] for row in rows), 186, 14)
    step = min(974 / len(ordered), 974 / 12)
    for tick in y.ticks():
        drawing.line((50, y(tick)), (1030, y(tick)), "grid")
        drawing.write((44, y(tick) + 4), short(tick), "muted", "end")
    for number, row in enumerate(ordered):
        place = 56 + (number + 0.5) * step
        style = ("kept" if row.kept else "left-out") + (" tie" if row.tie else "")
        drawing.line((place, y(row.interval[0])), (place, y(row.interval[1])), f"interval {style}")
        words = f"{row.case}: {row.mean:.4f}" + (", tie zone" if row.tie else "")
        drawing.dot((place, y(row.mean)), min(5, max(2.5, step / 3)), style, words)
    return drawing.text()


def _selection_words(rows: Sequence[ScoredCase]) -> str:
    kept, ties = sum(row.kept for row in rows), sum(row.tie for row in rows)
    tied = f", {ties} in the tie zone" if ties else ""
    return f"Pretext loss of {len(rows)} cases, lowest first; {kept} kept{tied}"


@dataclass(frozen=True)
class Scale:
    """Maps values low..high to places start..end on the drawing, by their logarithm if so wished."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (self._inner(part) for part in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _inner(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def ticks(self) -> list[float]:
        """Three to seven round values between low and high."""
        if self.logarithmic:
            return self._decades()
        if self.high <= self.low:
            return [self.low]
        raw = (self.high - self.low) / 4
        size = 10 ** math.floor(math.log10(raw))
        step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _decades(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            ticks = [
                f * 10.0**decade for decade in decades for f in factors if self.low <= f * 10.0**decade <= self.high
            ]
            if len(ticks) >= 3:
                break
        return ticks


@dataclass
class Drawing:
    """An SVG element with a title for screen readers."""

    width: float
    height: float
    words: str
    root: ElementTree.Element = field(init=False)

    def __post_init__(self) -> None:
        box = f"0 0 {self.width:g} {self.height:g}"
        self.root = ElementTree.Element("svg", {"viewBox": box, "role": "img", "aria-label": self.words})

    def line(self, start: Point, end: Point, style: str) -> None:
        ends = zip(("x1", "y1", "x2", "y2"), (*start, *end), strict=True)
        ElementTree.SubElement(self.root, "line", {"class": style} | {key: f"{value:.1f}" for key, value in ends})

    def path(self, points: Sequence[Point], style: str) -> None:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        ElementTree.SubElement(self.root, "polyline", {"class": style, "points": places})

    def dot(self, place: Point, radius: float, style: str, words: str = "") -> None:
        x, y = place
        dot = ElementTree.SubElement(
            self.root, "circle", {"class": style, "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:.1f}"}
        )
        if words:
            ElementTree.SubElement(dot, "title").text = words

    def write(self, place: Point, text: str, style: str, anchor: str) -> None:
        attributes = {"class": style, "x": f"{place[0]:.1f}", "y": f"{place[1]:.1f}", "text-anchor": anchor}
        ElementTree.SubElement(self.root, "text", attributes).text = text

    def text(self) -> str:
        return ElementTree.tostring(self.root, encoding="unicode")


def _curves(points: Sequence[LossPoint]) -> dict[str, list[Point]]:
    """Every loss by name as (step, value), averaged in bins to at most _MOST_POINTS."""
    curves: dict[str, list[Point]] = {}
    for step, losses in sorted(points, key=lambda point: point[0]):
        for name, value in losses.items():
            if math.isfinite(value):
                curves.setdefault(name, []).append((float(step), value))
    return {name: _thinned(curve) for name, curve in curves.items()}


def _thinned(curve: list[Point]) -> list[Point]:
    size = math.ceil(len(curve) / _MOST_POINTS)
    bins = (curve[start : start + size] for start in range(0, len(curve), size))
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in bins]


def _curve_words(name: str, curve: Sequence[Point]) -> str:
    return f"{name} from {short(curve[0][1])} to {short(curve[-1][1])}"


def _value_scale(values: Sequence[float]) -> Scale:
    """From 0 where that shows every curve, or else logarithmic."""
    low, high = min(values), max(values)
    if low > 0 and high / low > 30:
        return Scale(low, high, 196, 12, logarithmic=True)
    return Scale(min(low, 0), max(high, 0) or 1, 196, 12)


def _smoothed(curve: Sequence[Point]) -> list[Point]:
    """Running mean over a twelfth of the curve; of that, near its ends, what there is."""
    reach = len(curve) // 24
    smooth = []
    for index, (step, _) in enumerate(curve):
        part = curve[max(index - reach, 0) : index + reach + 1]
        smooth.append((step, sum(value for _, value in part) / len(part)))
    return smooth


def short(value: float) -> str:
    """A number for an axis: 0.25, 1,200, 3e-05."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
