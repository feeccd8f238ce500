"""Pictures of a[t][i] by one model for all tasks: heat maps, and the Dice of each task over the stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

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
    shortened,
    wrapped,
)
from MedSeqFTLib.evaluation.comparison_tables import order_words
from MedSeqFTLib.evaluation.continual import Analysis

Matrix = Sequence[Sequence[float | None]]
_COLOURS = colormaps["cividis"]  # even to colour-blind eyes, and on either page
_HEAD, _FOOT = 40, 44  # above and below a heat map: the strategy, and the tasks' numbers
_EDGE, _GAP = 44, 26  # left of the first heat map, and between two
_SCALE_WIDTH = 220
_KEY_LETTERS = 40  # of a task's name below the heat maps
_PANEL = 268  # height of a panel of the Dice over the stages, with its title and axis


def matrices_chart(analysis: Analysis, order: int) -> Chart | None:
    """Heat maps of the strategies side by side, all on one scale of colours."""
    matrices, tasks = _matrices(analysis, order), analysis.comparison.orders[order]
    if not matrices:
        return None
    cell, lines = _layout(len(matrices), len(tasks))
    side, per_line = cell * len(tasks), math.ceil(len(matrices) / lines)
    height = lines * (_HEAD + side + _FOOT) + 12 + ROW * max(2, _key_lines(tasks))
    light, dark = draw(WIDTH, height, lambda canvas: _paint_matrices(canvas, matrices, tasks, side, per_line))
    what = "Dice of each task (columns) after each stage (rows) by one model for all tasks, mean over seeds."
    words = " ".join(f"{label} ends at {_row_words(matrix[-1], tasks)}." for label, matrix in matrices.items())
    alt = f"Heat maps of Dice by stage and task. {words}"
    caption = f"{what} {order_words(analysis, order)}"
    return Chart(
        f"matrices-order-{order}", f"After each stage, order {order}", caption, alt, WIDTH, height, light, dark
    )


def _layout(matrices: int, tasks: int) -> tuple[int, int]:
    """The cells' side and the number of lines: as few lines as cells of 38 pixels allow, then cells as large as fit."""
    per_line = max(1, (WIDTH - _EDGE + _GAP) // (38 * tasks + _GAP))
    lines = math.ceil(matrices / per_line)
    per_line = math.ceil(matrices / lines)
    return min(48, max(38, ((WIDTH - _EDGE + _GAP) // per_line - _GAP) // tasks)), lines


def _matrices(analysis: Analysis, order: int) -> dict[str, Matrix]:
    found = {note.label: analysis.matrix(note.label, order) for note in analysis.comparison.strategies}
    return {label: matrix for label, matrix in found.items() if matrix}


def _row_words(row: Sequence[float | None], tasks: Sequence[str]) -> str:
    known = [(task, value) for task, value in zip(tasks, row, strict=True) if value is not None]
    return ", ".join(f"{plain(task)} {value:.3f}" for task, value in known)


def _paint_matrices(
    canvas: Canvas, matrices: Mapping[str, Matrix], tasks: Sequence[str], side: int, per_line: int
) -> None:
    scale = _scale(matrices)
    for number, (label, matrix) in enumerate(matrices.items()):
        left = _EDGE + number % per_line * (side + _GAP)
        top = number // per_line * (_HEAD + side + _FOOT)
        title = wrapped(label, int(side // LETTER))
        canvas.write(left, top + _HEAD - 7, title, weight="bold", size=SMALL, va="bottom", linespacing=1.1)
        axes = canvas.axes(left, top + _HEAD, side, side)
        _paint_matrix(axes, canvas, matrix, scale)
        if number % per_line == 0:
            axes.set_ylabel("after stage", color=canvas.theme.faint, size=SMALL)
    bottom = canvas.height - ROW * max(2, _key_lines(tasks))
    for number, task in enumerate(tasks):
        column, line = divmod(number, _key_lines(tasks))
        words = f"{number + 1}  {shortened(plain(task), _KEY_LETTERS)}"
        canvas.write(_EDGE + column * _key_width(tasks), bottom + (line + 0.5) * ROW, words, size=SMALL)
    _paint_scale(canvas, scale, WIDTH - _SCALE_WIDTH, bottom)


def _scale(matrices: Mapping[str, Matrix]) -> Normalize:
    """From a tenth below the lowest to a tenth above the highest value."""
    values = [value for matrix in matrices.values() for row in matrix for value in row if value is not None]
    low, high = math.floor(min(values) * 10) / 10, math.ceil(max(values) * 10) / 10
    return Normalize(low, high if high > low else low + 0.1)


def _paint_matrix(axes: Axes, canvas: Canvas, matrix: Matrix, scale: Normalize) -> None:
    values = np.array([[np.nan if value is None else value for value in row] for row in matrix])
    size = len(matrix)
    axes.imshow(values, cmap=_COLOURS, norm=scale, aspect="auto", interpolation="nearest")
    axes.set(xticks=range(size), yticks=range(size), xticklabels=range(1, size + 1), yticklabels=range(1, size + 1))
    axes.set_xlabel("task", color=canvas.theme.faint, size=SMALL)
    for edge in np.arange(size - 1) + 0.5:  # seams between the cells
        axes.axhline(edge, color=canvas.theme.page, linewidth=1.5)
        axes.axvline(edge, color=canvas.theme.page, linewidth=1.5)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", size=SMALL, color=_on(scale(value)))


def _on(share: float) -> str:
    """Black or white, whichever can be read on the colour at this place of the scale."""
    red, green, blue, _ = _COLOURS(share)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "#ffffff"


def _paint_scale(canvas: Canvas, scale: Normalize, left: float, top: float) -> None:
    axes = canvas.axes(left, top + 4, _SCALE_WIDTH - 30, 12)
    low, high = float(scale.vmin or 0), float(scale.vmax or 1)
    axes.imshow(np.linspace(low, high, 256)[None], cmap=_COLOURS, norm=scale, aspect="auto", extent=(low, high, 0, 1))
    axes.set(yticks=[], xticks=[low, (low + high) / 2, high])
    axes.tick_params(pad=3)
    canvas.write(left - 10, top + 10, "Dice", size=SMALL, color=canvas.theme.faint, ha="right")


def _key_lines(tasks: Sequence[str]) -> int:
    """Lines that the numbered tasks take beside the scale of colours."""
    columns = max(1, int((WIDTH - _EDGE - _SCALE_WIDTH - 60) // _key_width(tasks)))
    return math.ceil(len(tasks) / columns)


def _key_width(tasks: Sequence[str]) -> float:
    return (min(max(map(len, tasks)), _KEY_LETTERS) + 5) * LETTER


def forgetting_chart(analysis: Analysis, order: int) -> Chart | None:
    """The Dice of each task over the stages, a small panel for each task, a line for each strategy."""
    matrices, tasks = _matrices(analysis, order), analysis.comparison.orders[order]
    if not matrices or len(tasks) < 2:
        return None
    baseline = analysis.comparison.baseline
    level = {task: analysis.of_task(baseline, "per-task", task) for task in tasks}
    names = [*matrices, f"{baseline}, own models"]
    lines = math.ceil(len(tasks) / _per_line(tasks))
    height = lines * _PANEL + legend_rows(names) * ROW + 6
    light, dark = draw(WIDTH, height, lambda canvas: _paint_forgetting(canvas, matrices, tasks, level, names))
    what = "Dice of each task after its own and every later stage, by one model for all tasks, mean over seeds."
    caption = f"{what} Points are set side by side where strategies share a stage. {order_words(analysis, order)}"
    words = " ".join(_loss_words(label, matrix, tasks) for label, matrix in matrices.items())
    alt = f"Dice of each task over the stages, one panel for each task. {words}"
    return Chart(f"forgetting-order-{order}", f"Forgetting, order {order}", caption, alt, WIDTH, height, light, dark)


def _per_line(tasks: Sequence[str]) -> int:
    return min(4, len(tasks))


def _loss_words(label: str, matrix: Matrix, tasks: Sequence[str]) -> str:
    ends = [(task, matrix[i][i], matrix[-1][i]) for i, task in enumerate(tasks[:-1])]
    words = [
        f"{plain(task)} from {own:.3f} to {last:.3f}"
        for task, own, last in ends
        if own is not None and last is not None
    ]
    return f"{label}: {', '.join(words)}." if words else ""


def _paint_forgetting(
    canvas: Canvas,
    matrices: Mapping[str, Matrix],
    tasks: Sequence[str],
    level: Mapping[str, float | None],
    names: Sequence[str],
) -> None:
    width, rows = WIDTH / _per_line(tasks), math.ceil(len(tasks) / _per_line(tasks))
    known = [v for matrix in matrices.values() for row in matrix for v in row if v is not None]
    known += [value for value in level.values() if value is not None]
    limits = (math.floor(min(known) * 10) / 10 - 0.02, math.ceil(max(known) * 10) / 10 + 0.02)
    baseline: dict[str, Any] = {"color": canvas.theme.faint, "linestyle": (0, (2, 3)), "linewidth": 1.4}
    for number, task in enumerate(tasks):
        left, top = number % _per_line(tasks) * width, number // _per_line(tasks) * _PANEL
        canvas.write(left, top + 12, shortened(plain(task), int((width - 30) // LETTER)), weight="bold")
        axes = canvas.axes(left + 36, top + 34, width - 36 - _GAP, _PANEL - 34 - 54)
        axes.set(xlim=(0.6, len(tasks) + 0.4), ylim=limits, xticks=range(1, len(tasks) + 1))
        axes.grid(axis="y", color=canvas.theme.rule, linewidth=0.8)
        axes.set_xlabel("after stage", color=canvas.theme.faint, size=SMALL)
        value = level[task]
        if value is not None:
            axes.axhline(value, **baseline)
        _paint_lines(axes, canvas, [[row[number] for row in matrix] for matrix in matrices.values()])
    looks = [*(line_looks(canvas.theme, line) for line in range(len(matrices))), {**baseline, "marker": ""}]
    canvas.legend(rows * _PANEL, list(zip(names, looks, strict=True)))


def _paint_lines(axes: Axes, canvas: Canvas, columns: Sequence[Sequence[float | None]]) -> None:
    """One task's Dice by stage, a line for each strategy, slightly beside each other."""
    for line, column in enumerate(columns):
        aside = (line - (len(columns) - 1) / 2) * min(0.05, 0.5 / len(columns))
        known = [(stage + aside, value) for stage, value in enumerate(column, 1) if value is not None]
        axes.plot([x for x, _ in known], [y for _, y in known], **line_looks(canvas.theme, line))
