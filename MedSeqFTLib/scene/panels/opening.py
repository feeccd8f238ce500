"""Opening a workspace for a window: what is told where it does not go well, and who else has it open."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from MedSeqFTLib.errors import InputError, MedSeqFTError, WorkspaceError
from MedSeqFTLib.scene.panels.background import Background
from MedSeqFTLib.scene.panels.packages import missing_packages
from MedSeqFTLib.scene.panels.session import Session

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.workspace import Workspace

SETTING = "MedSeqFT/workspace"
#: Held by a window as long as it has the workspace open; only tells others that it is there.
CLAIM = "window.lock"


#: What the panels import when a workspace is open, and what these import: over a second the first time.
LIBRARY = ("jobs.summary", "learning.folds", "learning.preflight", "learning.split", "scene.logic", "scene.tasks")


class Opening:
    """Opens one workspace at a time, on a thread, and remembers it for the next start of Slicer."""

    def __init__(self, session: Session) -> None:
        """Nothing is opened yet."""
        self._session = session
        self._background = Background()
        self._claim: Any = None
        self.caution = ""  # what to know about the workspace that is open
        self.trouble = ""  # why the one of last time could not be opened

    @property
    def is_active(self) -> bool:
        """True while a workspace is being opened."""
        return self._background.is_active

    def open(self, folder: Path, create: bool = False, anonymous: bool = False) -> None:
        """Begin to open a workspace or to make one, which keeps no names if it is `anonymous`.

        The one that was open stays open until this one is, and if it cannot be opened, which the user is shown then.

        Raises:
            MedSeqFTError: what is seen at once to be wrong, and what to do.
        """
        if not self.is_active:
            _refuse(folder, create)
            self._begin(lambda: _opened(folder, create, anonymous), self._use)

    def reopen(self) -> None:
        """Open the workspace of last time, if there is one and nothing has to be installed before."""
        remembered = str(qt.QSettings().value(SETTING) or "")
        if not remembered or self._session.logic is not None or self.is_active or missing_packages():
            return
        folder = Path(remembered)
        try:
            _refuse(folder, create=False)
        except MedSeqFTError as error:
            self._not_reopened(str(error))
        else:
            self._begin(lambda: _opened_or_why_not(folder), self._reopened)

    def close(self) -> None:
        """The window is going: others may have the workspace for themselves."""
        self._background.close()
        self._release()

    def _begin(self, action: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._background.run(action, done, self._session.changed)
        self._session.changed()

    def _use(self, workspace: Workspace) -> None:
        previous = self._session.logic.workspace.folder if self._session.logic else None
        self.trouble = ""
        if previous != workspace.folder:
            self._release()
            self.caution = self._claimed(workspace.folder)
        qt.QSettings().setValue(SETTING, str(workspace.folder))
        self._session.use(workspace)

    def _reopened(self, found: Workspace | str) -> None:
        if isinstance(found, str):
            self._not_reopened(found)
        else:
            self._use(found)

    def _not_reopened(self, why: str) -> None:
        self.trouble = why
        self._session.changed()

    def _release(self) -> None:
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


def _opened(folder: Path, create: bool, anonymous: bool) -> Workspace:
    """Import the library, then open the workspace or make it. Raises MedSeqFTError, ImportError."""
    for name in LIBRARY:
        importlib.import_module(f"MedSeqFTLib.{name}")
    from MedSeqFTLib.workspace.workspace import Workspace

    return Workspace.create(folder, anonymous=anonymous) if create else Workspace.open(folder)


def _opened_or_why_not(folder: Path) -> Workspace | str:
    try:
        return _opened(folder, create=False, anonymous=False)
    except (MedSeqFTError, ImportError) as error:
        return str(error)
