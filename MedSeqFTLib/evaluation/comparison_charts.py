"""Pictures of a comparison: gains over the baseline, a[t][i], forgetting, and how the baseline converged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes

from MedSeqFTLib.evaluation.bootstrap import Interval
from MedSeqFTLib.evaluation.chart_style import (
    LETTER,
    ROW,
    SMALL,
    WIDTH,
    Canvas,
    Chart,
    draw,
    legend_rows,
    line_looks,
    plain,
    wrapped,
)
from MedSeqFTLib.evaluation.comparison_tables import GROUPS
from MedSeqFTLib.evaluation.continual import READINGS, Analysis
from MedSeqFTLib.evaluation.forgetting_charts import forgetting_chart, matrices_chart
from MedSeqFTLib.evaluation.results import CurvePoint
from MedSeqFTLib.evaluation.tables import NOTHING, Column
from MedSeqFTLib.workspace.schema import Reading

_POINTS = Column("Gain", "points")
_TITLE = 34  # height of the title of a panel
_LINE = 36  # height of a strategy's row
_LONGEST = 26  # letters of a strategy's name
_CURVES = 310  # height of the curves with their axis
_NUMBERS, _GAP = 168, 28  # width of the figures beside the dots, and between panels


def all_charts(analysis: Analysis) -> list[Chart]:
    """Every picture for which there are data."""
    orders = range(len(analysis.comparison.orders))
    charts = [
        gains_chart(analysis),
        *(matrices_chart(analysis, order) for order in orders),
        *(forgetting_chart(analysis, order) for order in orders),
        convergence_chart(analysis.comparison.curves),
    ]
    return [chart for chart in charts if chart is not None]


def gains_chart(analysis: Analysis) -> Chart | None:
    """A dot and its interval for each strategy, one panel a reading, each on a scale of its own."""
    labels = [note.label for note in analysis.comparison.strategies]
    found = {reading: {label: analysis.gain(label, reading) for label in labels} for reading in READINGS}
    panels = {reading: gains for reading, gains in found.items() if any(gains.values())}
    rows = [label for label in labels if any(gains[label] for gains in panels.values())]
    if not rows:
        return None
    height = _TITLE + _LINE * len(rows) + 46
    light, dark = draw(WIDTH, height, lambda canvas: _paint_gains(canvas, panels, rows))
    baseline = analysis.comparison.baseline
    caption = (
        f"Gain in Dice over {baseline} (the line at 0) in points, with 95 % intervals. Green: the interval lies wholly "
        "above 0. Orange: wholly below. Gray: it includes 0. Each panel has its own scale."
    )
    words = [f"{GROUPS[reading]}: {_gain_words(gains, rows)}." for reading, gains in panels.items()]
    alt = f"Gain in points of Dice over {baseline} with 95 % intervals. {' '.join(words)}"
    return Chart("gains", f"Gain over {baseline}", caption, alt, WIDTH, height, light, dark)


def _gain_words(gains: Mapping[str, Interval | None], rows: Iterable[str]) -> str:
    return "; ".join(f"{label} {_POINTS.full(gains[label])}" for label in rows if gains[label])


def _paint_gains(canvas: Canvas, panels: Mapping[Reading, Mapping[str, Interval | None]], rows: Sequence[str]) -> None:
    names = min(max(map(len, rows)), _LONGEST) * LETTER + 24
    width = (WIDTH - names) / len(panels)
    middles = [_TITLE + _LINE * (number + 0.5) for number in range(len(rows))]
    for row, middle in zip(rows, middles, strict=True):
        canvas.write(0, middle, wrapped(row, _LONGEST), linespacing=1.1)
    for number, (reading, gains) in enumerate(panels.items()):
        left = names + number * width
        canvas.write(left, 10, GROUPS[reading], weight="bold")
        axes = canvas.axes(left, _TITLE, width - _NUMBERS - _GAP, _LINE * len(rows))
        _paint_intervals(axes, canvas, [gains[row] for row in rows])
        for row, middle in zip(rows, middles, strict=True):
            words = _POINTS.full(gains[row]) if gains[row] else NOTHING
            canvas.write(left + width - _GAP, middle, words, ha="right", size=SMALL, color=canvas.theme.faint)


def _paint_intervals(axes: Axes, canvas: Canvas, gains: Sequence[Interval | None]) -> None:
    theme = canvas.theme
    bounds = [0.0, *(100 * bound for gain in gains if gain for bound in (gain.low, gain.high, gain.mean))]
    margin = 0.05 * (max(bounds) - min(bounds)) or 1.0
    axes.set(xlim=(min(bounds) - margin, max(bounds) + margin), ylim=(len(gains) - 0.5, -0.5), yticks=[])
    axes.grid(axis="x", color=theme.rule, linewidth=0.8)
    axes.axvline(0, color=theme.faint, linewidth=1.2, zorder=1)
    axes.set_xlabel("points of Dice", color=theme.faint, size=SMALL)
    tones = {"better": theme.better, "worse": theme.worse}
    for line, gain in enumerate(gains):
        if gain:
            color = tones.get(_POINTS.tone(gain), theme.faint)
            axes.plot((100 * gain.low, 100 * gain.high), (line, line), color=color, linewidth=2.2)
            axes.plot(100 * gain.mean, line, "o", color=color, markersize=7)


def convergence_chart(curves: Mapping[str, Sequence[CurvePoint]]) -> Chart | None:
    """Dice and training loss of the baseline over the steps, a line for each task."""
    known = {task: points for task, points in curves.items() if _known(points, 1) or _known(points, 2)}
    if not known:
        return None
    height = _TITLE + _CURVES + legend_rows([plain(task) for task in known]) * ROW + 6
    light, dark = draw(WIDTH, height, lambda canvas: _paint_convergence(canvas, known))
    caption = "The baseline over its training steps, by task: a curve that still climbs is not converged."
    alt = "Baseline by training step. " + " ".join(_curve_words(*curve) for curve in known.items())
    return Chart("convergence", "Convergence of the baseline", caption, alt, WIDTH, height, light, dark)


def _known(points: Sequence[CurvePoint], place: int) -> list[tuple[int, float]]:
    """(step, value) of the Dice (place 1) or the loss (place 2), where there is one."""
    pairs = [(point[0], point[place]) for point in points]
    return sorted((step, value) for step, value in pairs if value is not None)


def _curve_words(task: str, points: Sequence[CurvePoint]) -> str:
    known = _known(points, 1)
    if not known:
        return f"{plain(task)}: loss only."
    (first, start), (last, end) = known[0], known[-1]
    return f"{plain(task)}: Dice {start:.3f} at step {first}, {end:.3f} at step {last}."


def _paint_convergence(canvas: Canvas, curves: Mapping[str, Sequence[CurvePoint]]) -> None:
    places = [place for place in (1, 2) if any(_known(points, place) for points in curves.values())]
    width = WIDTH / len(places)
    for number, place in enumerate(places):
        canvas.write(number * width, 10, ("Dice", "Training loss")[place - 1], weight="bold")
        axes = canvas.axes(number * width + 48, _TITLE, width - 48 - _GAP, _CURVES - 50)
        axes.grid(color=canvas.theme.rule, linewidth=0.8)
        axes.set_xlabel("step", color=canvas.theme.faint, size=SMALL)
        for line, points in enumerate(curves.values()):
            known = _known(points, place)
            looks = {**line_looks(canvas.theme, line), "markersize": 3.5 if len(known) < 40 else 0}
            axes.plot([step for step, _ in known], [value for _, value in known], **looks)
    entries = [(plain(task), line_looks(canvas.theme, line)) for line, task in enumerate(curves)]
    canvas.legend(_TITLE + _CURVES, entries)
