"""Edits on their way to the disk, one after another, while the window lives on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.panels.background import Background
from MedSeqFTLib.scene.panels.panel import guarded
from MedSeqFTLib.scene.panels.plain import plain

if TYPE_CHECKING:
    from MedSeqFTLib.scene.drafts import Edit
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.scene.waiting import Waiting


class Keeping:
    """What is edited is copied at once, so that its scene may change or close, and written on a thread."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called when an edit is on the disk, or could not be written."""
        self._changed = changed
        self._background = Background()
        self._waiting: list[Edit] = []
        self._ending = False  # nobody can come back to an edit in the scene

    @property
    def is_active(self) -> bool:
        """True while an edit is not on the disk yet."""
        return bool(self._waiting)

    def keep(self, logic: SceneLogic, task: str, nodes: Sequence[Any]) -> None:
        """Keep those of these nodes that were edited; what prevents it for one of them is shown."""
        for node in nodes:
            guarded(lambda node=node: self._keep(logic, task, node))  # type: ignore[misc]

    def finish(self, waiting: Waiting) -> None:
        """Return when all of it is on the disk, or the user was told why not."""
        self._background.finish(waiting)

    def close(self, waiting: Waiting) -> None:
        """The window is going: as `finish`, and whoever cannot be written is asked about."""
        self._ending = True
        self.finish(waiting)

    def _keep(self, logic: SceneLogic, task: str, node: Any) -> None:
        from MedSeqFTLib.scene.drafts import take_edit
        from MedSeqFTLib.scene.waiting import at_once

        earlier = [edit for edit in self._waiting if edit.node is node]
        if any(edit.is_current for edit in earlier):
            return
        if earlier:
            self.finish(at_once)  # or else both would replace the same draft
        edit = take_edit(logic.workspace, task, node)
        if edit is None:
            return
        self._waiting.append(edit)
        self._begin(edit)

    def _begin(self, edit: Edit) -> None:
        if edit.needs_scene:
            self._ended(edit, _trouble(edit))
        else:
            failed = partial(self._forget, edit)  # by a mistake of this program, which is shown after this
            self._background.run(partial(_trouble, edit), partial(self._ended, edit), failed)

    def _ended(self, edit: Edit, trouble: MedSeqFTError | None) -> None:
        if trouble is None:
            edit.written()
        elif not self._stays(edit) and _wanted_again(edit, trouble):
            self._begin(edit)
            return
        self._forget(edit)
        if not self._ending:
            self._changed()
        if trouble is not None and self._stays(edit):
            raise trouble

    def _forget(self, edit: Edit) -> None:
        self._waiting.remove(edit)
        edit.not_written()  # if it was, this changes nothing

    def _stays(self, edit: Edit) -> bool:
        """True if the edit is in a scene that one can go on working with."""
        return edit.node is not None and not self._ending and not slicer.mrmlScene.IsClosing()


def _trouble(edit: Edit) -> MedSeqFTError | None:
    try:
        edit.write()
    except MedSeqFTError as error:
        return error
    return None


def _wanted_again(edit: Edit, trouble: MedSeqFTError) -> bool:
    """Whether the user wants to try once more to write an edit that is no longer in the scene."""
    text = _(
        "{why}\n\nThe edit of {name} is in no scene any more: make room, or mend what is in the way, and try again. "
        "If you close this, it is lost."
    )
    return bool(
        slicer.util.confirmRetryCloseDisplay(plain(text.format(why=trouble, name=edit.name)), windowTitle=_("MedSeqFT"))
    )
