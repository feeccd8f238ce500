"""Opening a workspace for a window: what is told where it does not go well, and who else has it open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from MedSeqFTLib.errors import InputError, MedSeqFTError, WorkspaceError
from MedSeqFTLib.scene.panels.packages import missing_packages
from MedSeqFTLib.scene.panels.session import Session

SETTING = "MedSeqFT/workspace"
#: Held by a window as long as it has the workspace open; only tells others that it is there.
CLAIM = "window.lock"


class Opening:
    """Opens one workspace at a time, and remembers it for the next start of Slicer."""

    def __init__(self, session: Session) -> None:
        """Nothing is opened yet."""
        self._session = session
        self._claim: Any = None
        self.caution = ""  # what to know about the workspace that is open
        self.trouble = ""  # why the one of last time could not be opened

    def open(self, folder: Path, create: bool = False, anonymous: bool = False) -> None:
        """Open a workspace or make one, which keeps no names if it is `anonymous`.

        Raises:
            MedSeqFTError: what happened, and what to do; the workspace that was open stays open.
        """
        _refuse(folder, create)
        previous = self._session.logic.workspace.folder if self._session.logic else None
        self._session.open(folder, create, anonymous)
        self.trouble = ""
        if previous != folder:
            self.close()
            self.caution = self._claimed(folder)
        qt.QSettings().setValue(SETTING, str(folder))
        self._session.changed()

    def reopen(self) -> None:
        """Open the workspace of last time, if there is one and nothing has to be installed before."""
        remembered = str(qt.QSettings().value(SETTING) or "")
        if not remembered or self._session.logic is not None or missing_packages():
            return
        try:
            self.open(Path(remembered))
        except (MedSeqFTError, ImportError) as error:
            self.trouble = str(error)
            self._session.changed()

    def close(self) -> None:
        """The window is going: others may have the workspace for themselves."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _claimed(self, folder: Path) -> str:
        from filelock import FileLock, Timeout

        claim = FileLock(str(folder / "jobs" / CLAIM))
        try:
            claim.acquire(timeout=0)
        except Timeout:
            return _(
                "Another Slicer has this workspace open, too. Both may work in it, for writing waits its turn; "
                "but close the other one if you do not know of it."
            )
        except OSError as error:
            return _(
                "This workspace cannot be written ({reason}), so results can be looked at, but nothing can be "
                "accepted or adapted. Make the folder writable, or open a copy of it that is."
            ).format(reason=error.strerror or error)
        self._claim = claim
        return ""


def _refuse(folder: Path, create: bool) -> None:
    """Say in the words of the window what the library would say in those of the command line."""
    if missing := missing_packages():
        raise InputError(_("Slicer's Python lacks {names}; press Install first.").format(names=", ".join(missing)))
    if create:
        return
    if not folder.is_dir():
        raise WorkspaceError(
            _(
                "The folder {folder} is not there. If it was moved or renamed, press Open and choose it where it is "
                "now; if it lies on another disk or computer, connect that first."
            ).format(folder=folder)
        )
    if not (folder / "workspace.json").is_file():
        raise WorkspaceError(
            _(
                "{folder} is no workspace: it has no file workspace.json. Choose the folder that has one, or press "
                "New to make a workspace in an empty folder."
            ).format(folder=folder)
        )
