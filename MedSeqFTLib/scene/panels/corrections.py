"""Whether corrections are shrinking version by version: a sentence, a table and a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.background import Background
from MedSeqFTLib.scene.panels.chart import Chart
from MedSeqFTLib.scene.panels.job_watch import duration
from MedSeqFTLib.scene.panels.panel import on, say
from MedSeqFTLib.scene.panels.segment import percent
from MedSeqFTLib.scene.panels.session import Session
from MedSeqFTLib.scene.panels.tables import fill, fit_height

if TYPE_CHECKING:
    from MedSeqFTLib.evaluation.drift import Drift, OfVersion


class Corrections:
    """Looks when it is asked, and forgets when another task or workspace is chosen."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        self.ui, self._session = ui, session
        self._background = Background()
        self._chart = Chart(_("Corrections"), _("version"), _("Dice with what was accepted"))
        self._layout: int | None = None  # what it was before the plot was shown
        self._asked: tuple[Any, str] = (None, "")  # for which workspace and task
        on(ui.driftButton.clicked, self._ask)
        on(ui.driftPlotButton.clicked, self._plot)
        self._forget()

    def show(self) -> None:
        """What was told of another task is taken away."""
        if self._asked != (self._session.logic, self._session.task):
            self._forget()
        self._offer()

    def close(self) -> None:
        """The window is going: leave the scene and the layout as they were."""
        self._background.close()
        self._hide_plot()

    def _offer(self) -> None:
        busy = self._background.is_active
        self.ui.driftButton.enabled = not busy
        self.ui.driftButton.toolTip = (
            _("The cases are being read.")
            if busy
            else _(
                "Compares what the versions proposed with what was accepted, and tells what their confidence is worth."
            )
        )

    def _forget(self) -> None:
        self._asked = (None, "")
        self._chart.clear()
        self._hide_plot()
        say(self.ui.driftLabel, "")
        self.ui.driftTable.visible = False
        self.ui.driftPlotButton.visible = False

    def _ask(self) -> None:
        logic, task = self._session.logic, self._session.task
        assert logic is not None  # without a workspace the panel cannot be used
        self._asked = logic, task
        self._background.run(lambda: logic.drift(task), self._tell, self._offer)
        self._offer()

    def _tell(self, found: Drift) -> None:
        self._offer()
        if self._asked != (self._session.logic, found.task):
            return  # another task was chosen meanwhile
        say(
            self.ui.driftLabel,
            "\n".join(filter(None, (found.warning, found.sentence, found.confidence, _apart(found)))),
        )
        headers = (_("Version"), _("Cases"), _("Dice"), _("Changed"), _("mm"), _("Confidence"), _("Time"))
        fill(self.ui.driftTable, headers, [_texts(version) for version in found.versions], numbers=range(1, 7))
        fit_height(self.ui.driftTable, 6, wide=True)
        self.ui.driftTable.visible = self.ui.driftPlotButton.visible = bool(found.versions)
        self._fill_chart(found)

    def _fill_chart(self, found: Drift) -> None:
        self._chart.clear()
        self._chart.set_title(_("Corrections of {task}").format(task=found.task))
        for name, which in ((_("mean"), "mean"), (_("95 %, low"), "low"), (_("95 %, high"), "high")):
            self._chart.add(name, [(float(v.version[1:]), getattr(v.dice, which)) for v in found.versions])
        self._plot()

    def _plot(self) -> None:
        if not self.ui.driftPlotButton.checked or self._chart.is_empty:
            self._hide_plot()
            return
        if self._layout is None:
            self._layout = slicer.app.layoutManager().layout
        self._chart.show()

    def _hide_plot(self) -> None:
        self._chart.remove()
        self.ui.driftPlotButton.checked = False
        if self._layout is not None:
            slicer.app.layoutManager().setLayout(self._layout)
            self._layout = None


def _texts(version: OfVersion) -> tuple[str, ...]:
    dice = version.dice
    spread = f" ({dice.low:.2f} \u2013 {dice.high:.2f})" if version.cases > 1 else ""
    return (
        version.version,
        str(version.cases),
        f"{dice.mean:.3f}{spread}",
        "" if version.changed is None else percent(version.changed),
        "" if version.surface is None else f"{version.surface:.1f}",
        "" if version.confidence is None else percent(version.confidence),
        "" if version.seconds is None else duration(version.seconds),
    )


def _apart(found: Drift) -> str:
    if not found.apart:
        return ""
    names = ", ".join(case for case, _why in found.apart)
    return _("Not counted, as no version's proposal was at hand: {names}.").format(names=names)
