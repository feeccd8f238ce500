"""What a segmentation holds, in one line that follows the edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.panels.panel import on
from MedSeqFTLib.scene.panels.session import Session

if TYPE_CHECKING:
    from MedSeqFTLib.scene.segmentations import Findings

WAIT = 400  # milliseconds after the last edit
#: Voxels that are counted by themselves: in about 50 ms. Of more, only when the button is pressed.
MOST = 12_000_000


class Found:
    """Counts voxels when nothing has been edited for a moment. `obstacle` says why it cannot be accepted."""

    def __init__(self, label: Any, button: Any, session: Session, looked: Any) -> None:
        """Connect the widgets; `looked` is called after each count."""
        self._label, self._button, self._session, self._looked = label, button, session, looked
        self._nodes: tuple[Any, Any, str] = (None, None, "")
        self.obstacle = ""
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(WAIT)
        on(self._timer.timeout, self._count_if_quick)
        on(button.clicked, self._count)
        button.visible = False

    def of(self, volume: Any, segmentation: Any) -> None:
        """Show what this segmentation holds; looks only if another one was shown before."""
        nodes = volume, segmentation, self._session.task
        if nodes != self._nodes:
            self._nodes = nodes
            self._timer.stop()
            self._count_if_quick()

    def changed(self) -> None:
        """The segmentation was edited."""
        self.obstacle = ""
        self._timer.start()

    def close(self) -> None:
        """Stop waiting."""
        self._timer.stop()

    def _count_if_quick(self) -> None:
        from MedSeqFTLib.scene.segmentations import voxels_to_look_at

        volume, segmentation, _task = self._nodes
        if volume is None or segmentation is None or voxels_to_look_at(segmentation) <= MOST:
            self._button.visible = False
            self._count()
            return
        self._button.visible = True
        self.obstacle = ""
        self._label.text = _("A large segmentation: not counted by itself.")
        self._looked()

    def _count(self) -> None:
        volume, segmentation, task = self._nodes
        self.obstacle = ""
        if volume is None or segmentation is None or self._session.logic is None:
            self._label.text = ""
        else:
            try:
                found = self._session.logic.inspect(task, volume, segmentation)
                self.obstacle = what_prevents(found)
                self._label.text = told(found)
            except MedSeqFTError as error:
                self._label.text, self.obstacle = "", str(error)
        self._looked()


def what_prevents(found: Findings) -> str:
    """Why these findings are no case yet, and what to do; "" if they are."""
    if found.unknown:
        return _("No label of the task: {names}. Rename these segments, or delete them.").format(
            names=", ".join(found.unknown)
        )
    return _("The segmentation is empty: draw something first.") if found.is_empty else ""


def told(found: Findings) -> str:
    """Voxels per label, and overlaps."""
    counts = ", ".join(
        _("{label}: {count} voxels").format(label=label, count=count) for label, count in found.voxels.items()
    )
    overlaps = [
        _("{first} and {second} overlap in {count} voxels; the label that the task lists last gets them.").format(
            first=overlap.first, second=overlap.second, count=overlap.voxels
        )
        for overlap in found.overlaps
    ]
    return "\n".join(line for line in (counts, *overlaps) if line)
