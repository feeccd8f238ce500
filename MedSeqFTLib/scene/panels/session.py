"""What the panels share: the open workspace, the parameters that the scene keeps, and who is told of a change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from MedSeqFTLib.scene.logic import SceneLogic

ROUNDS = 3  # of telling, when those who are told change something themselves


class Session:
    """One for each window of the module. A panel that changes something calls `changed`, and all of them look again."""

    def __init__(self, parameters: Any) -> None:
        """With the module's parameter node; the scene replaces it when it is closed."""
        self.parameters = parameters
        self.logic: SceneLogic | None = None
        self._listeners: list[Callable[[], None]] = []
        self._telling = self._again = False

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Tell every listener. If one of them changes something itself, all are told again, a few times at most."""
        self._again = True
        if self._telling:
            return
        self._telling = True
        try:
            for _round in range(ROUNDS):
                self._again = False
                for listener in self._listeners:
                    listener()
                if not self._again:
                    break
        finally:
            self._telling = False

    def open(self, folder: Path | None, create: bool = False, anonymous: bool = False) -> None:
        """Open a workspace, or make one, which keeps no names if `anonymous`; None closes the one that is open.

        Raises:
            WorkspaceError, StorageError: it cannot be opened or made; what was open stays open.
            ModuleNotFoundError: Slicer's Python lacks a package of the library.
        """
        self.logic = _opened(folder, create, anonymous) if folder is not None else None
        self.changed()

    @property
    def task(self) -> str:
        """The chosen task, or "" if there is none in the workspace of that name."""
        if self.logic is None:
            return ""
        chosen = str(self.parameters.task)
        return chosen if chosen in {task.name for task in self.logic.workspace.tasks()} else ""

    def why_no_task(self) -> str:
        """What to do before a task can be worked on; "" if one is chosen. For the panels that need one."""
        if self.logic is None:
            return _("Open a workspace in Set-up first.")
        return "" if self.task else _("Choose or create a task first.")


def _opened(folder: Path, create: bool, anonymous: bool) -> SceneLogic:
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.workspace.workspace import Workspace

    return SceneLogic(Workspace.create(folder, anonymous=anonymous) if create else Workspace.open(folder))
