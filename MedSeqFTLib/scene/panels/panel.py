"""What every panel is, and how an error reaches the user."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.panels.plain import plain

if TYPE_CHECKING:
    from MedSeqFTLib.scene.panels.session import Session


class Panel:
    """A collapsible part of the window. It is enabled when it can be used, and says otherwise why not.

    While it is folded it only follows what is chosen; it looks at the rest as soon as it is unfolded.
    """

    def __init__(self, ui: Any, session: Session, frame: Any, state: Any) -> None:
        """Connect the widgets; nothing is looked at before the first `refresh`.

        Args:
            frame: the panel's collapsible button.
            state: its label for a sentence.
        """
        self.ui, self.session = ui, session
        self._frame, self._state = frame, state
        session.listen(self.refresh)
        on(frame.contentsCollapsed, self.refresh)

    def refresh(self) -> None:
        """Look again, and show what is found; something damaged is told, and does not keep other panels from that."""
        with self.session.as_read():
            try:
                self._refresh()
            except MedSeqFTError as error:
                self._state.text = str(error)

    def _refresh(self) -> None:
        obstacle = self.obstacle()
        self._frame.enabled = not obstacle
        self._frame.toolTip = plain(obstacle)
        if obstacle:
            self._state.text = obstacle
            return
        self.follow()
        if not self._frame.collapsed:
            self.show()
            self._state.text = self.state()

    def obstacle(self) -> str:
        """Why the panel cannot be used now, and what to do; "" if it can."""
        return self.session.why_no_task()

    def state(self) -> str:
        """One sentence on how things stand."""
        return ""

    def follow(self) -> None:
        """Keep up with what is chosen, folded or not. Only called where there is no obstacle."""

    def show(self) -> None:
        """Fill the widgets. Only called where there is no obstacle, and the panel is unfolded."""

    def enter(self) -> None:
        """The user has come to the module, or a scene was opened: the widgets are bound to its parameters."""

    def exit(self) -> None:
        """The user goes to another module, or the scene is about to be closed."""

    def scene_closing(self) -> None:
        """The scene is about to be closed, whether the user is in the module or not."""

    def close(self) -> None:
        """The window is going: stop timers, remove observers."""


def say(label: Any, text: str) -> None:
    """Show a text; a label without one takes no room."""
    label.text = text
    label.visible = bool(text)


def on(signal: Any, slot: Callable[[], None]) -> None:
    """Connect a signal, whatever its arguments, to something that a user does: an error is shown in a dialog."""
    signal.connect(lambda *_arguments: guarded(slot))


def guarded(action: Callable[[], None]) -> None:
    """Do it; what goes wrong is shown. One of the two places where every exception is caught."""
    try:
        action()
    except MedSeqFTError as error:
        slicer.util.errorDisplay(plain(str(error)), windowTitle=_("MedSeqFT"))
    except Exception as error:
        logging.exception("MedSeqFT")
        slicer.util.errorDisplay(
            plain(_("MedSeqFT has made a mistake: {error}. Nothing that was accepted is lost.").format(error=error)),
            windowTitle=_("MedSeqFT"),
            detailedText=traceback.format_exc(),
        )
