"""Losses of an adaptation, as a plot that grows while it runs, and Dice before and after it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.chart import Chart

if TYPE_CHECKING:
    from MedSeqFTLib.evaluation.report import DiceRow
    from MedSeqFTLib.jobs.events import Event

LOSS, DICE = "loss", "dice"


class Lines(dict[str, list[tuple[float, float]]]):
    """Points of each line, by its name."""

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """What is known of the values."""
        for name, value in values.items():
            if value is not None:
                self.setdefault(name, []).append((step, value))


class LivePlot:
    """Two charts, of which one at most is seen. Slicer's layout comes back when none is."""

    def __init__(self) -> None:
        """With nothing to be seen."""
        self.charts = {
            LOSS: Chart(_("Losses"), _("step of the stage"), _("loss")),
            DICE: Chart(_("Dice on held-out cases"), _("measured"), _("Dice")),
        }
        self.shown = ""  # which chart the user wants to see
        self._layout: int | None = None  # what it was before a plot was shown

    def begin(self, title: str) -> None:
        """Another job is followed: its losses and Dice take the place of those before."""
        for chart in self.charts.values():
            chart.clear()
        self.charts[LOSS].set_title(title)

    def take_in(self, events: Iterable[Event]) -> None:
        """Losses of training steps, and Dice of held-out cases as they are measured."""
        losses, dice = Lines(), Lines()
        for event in events:
            if event.kind == "progress" and event.step is not None:
                losses.add(event.step, {f"{event.stage}: {name}": value for name, value in event.losses.items()})
                dice.add(event.step, event.dice)
        self._grow(LOSS, losses)
        self._grow(DICE, dice)

    def compare(self, rows: Sequence[DiceRow]) -> None:
        """Dice before and after, of each task's own model."""
        own = [row for row in rows if row.reading == "per-task"]
        known = {_("before"): [row.before for row in own], _("after"): [row.after for row in own]}
        bars = {name: list(map(_height, values)) for name, values in known.items() if set(values) != {None}}
        self.charts[DICE].set_bars([f"{row.task}: {row.label}" for row in own], bars)
        self._update(DICE)

    def show(self, which: str) -> None:
        """Show LOSS or DICE as soon as there is something to be seen, or neither with ""."""
        self.shown = which
        for name, chart in self.charts.items():
            if name != which:
                chart.remove()
        if which:
            self._update(which)
        else:
            self._restore_layout()

    def close(self) -> None:
        """Leave the scene and the layout as they were."""
        self.show("")

    def _grow(self, which: str, lines: Lines) -> None:
        for name, points in lines.items():
            self.charts[which].add(name, points)
        if lines:
            self._update(which)

    def _update(self, which: str) -> None:
        """Nodes that went with a closed scene come back with the next value."""
        chart = self.charts[which]
        if which == self.shown and not chart.is_empty and not chart.is_shown:
            if self._layout is None:
                self._layout = slicer.app.layoutManager().layout
            chart.show()

    def _restore_layout(self) -> None:
        if self._layout is not None:
            slicer.app.layoutManager().setLayout(self._layout)
            self._layout = None


def _height(value: float | None) -> float:
    return math.nan if value is None else value
