"""What the panels share: the open workspace, the parameters that the scene keeps, and who is told of a change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.panels.background import Background, waited_for
from MedSeqFTLib.scene.panels.keeping import Keeping

if TYPE_CHECKING:
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.workspace.workspace import Workspace

ROUNDS = 3  # of telling, when those who are told change something themselves


class Session:
    """One for each window of the module. A panel that changes something calls `changed`, and all of them look again."""

    def __init__(self, parameters: Any) -> None:
        """With the module's parameter node; the scene replaces it when it is closed."""
        self.parameters = parameters
        self.logic: SceneLogic | None = None
        self.keeping = Keeping(self.changed)
        self._listeners: list[Callable[[], None]] = []
        self._telling = self._again = False
        self._background = Background()
        self._tasks: list[str] = []  # of the workspace
        self._looked_at: tuple[object, ...] = ()  # workspace and task that were read
        self._to_read = False  # something may have changed since
        self._unreadable = ""  # what is damaged, and what to do

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Read what has changed in the workspace, and tell every listener.

        Thousands of cases are read on a thread: the listeners are told of what is known, and again when it is done.
        """
        self._look()
        self._tell()

    def chosen(self) -> None:
        """A parameter was changed, the workspace was not: thousands of cases are not read again for that."""
        if self.logic is not None and self.is_read and not self.logic.is_quick(self.task):
            self._tell()
        else:
            self.changed()

    def close(self) -> None:
        """The window is going."""
        self._background.close()

    @property
    def is_read(self) -> bool:
        """Whether the chosen task was read, if there is one."""
        return not self.task or self._looked_at == (self.logic, self.task)

    def as_read(self) -> AbstractContextManager[None]:
        """In the body, cases and proposals are those that were read last: nothing waits for the disk."""
        return self.logic.workspace.remembered.as_listed() if self.logic is not None else nullcontext()

    def _look(self) -> None:
        self._tasks = self.logic.workspace.task_names() if self.logic is not None else []
        logic, task = self.logic, self.task
        self._to_read = logic is not None and bool(task) and not logic.is_quick(task)
        if logic is not None and task and not self._to_read:
            self._unreadable, self._looked_at = _trouble(logic, task), (logic, task)

    def _read(self) -> None:
        """On a thread. It begins when everybody has been told: only one of Python's threads computes at a time."""
        logic, task = self.logic, self.task
        if self._to_read and logic is not None and task and not self._background.is_active:
            self._to_read = False
            before = logic.workspace.remembered.changes
            self._background.run(lambda: _trouble(logic, task), lambda found: self._seen(logic, task, before, found))

    def _seen(self, logic: SceneLogic, task: str, before: int, trouble: str) -> None:
        known = self._looked_at == (logic, task) and self._unreadable == trouble
        news = not known or logic.workspace.remembered.changes != before
        self._unreadable, self._looked_at = trouble, (logic, task)
        if news:
            self._tell()
        else:
            self._read()

    def _tell(self) -> None:
        """If a listener changes something itself, all are told again, a few times at most."""
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
        self._read()

    def use(self, workspace: Workspace | None) -> None:
        """Let the panels work in a workspace, or in none."""
        if workspace is None:
            self.logic = None
        else:
            from MedSeqFTLib.scene.logic import SceneLogic

            self.logic = SceneLogic(workspace, wait=waited_for)
        self.changed()

    @property
    def task(self) -> str:
        """The chosen task, or "" if there is none in the workspace of that name."""
        if self.logic is None:
            return ""
        chosen = str(self.parameters.task)
        return chosen if chosen in self._tasks else ""

    def why_no_task(self) -> str:
        """What to do before a task can be worked on; "" if one is chosen. For the panels that need one."""
        return self.why_no_list() or self._unreadable

    def why_no_list(self) -> str:
        """The same, for a panel that only shows what there is: what is damaged does not hide the others."""
        if self.logic is None:
            return _("Open a workspace in Set-up first.")
        if not self.task:
            return _("Choose or create a task first.")
        return "" if self.is_read else _("The cases of {task} are being read...").format(task=self.task)


def _trouble(logic: SceneLogic, task: str) -> str:
    """Read the workspace. Returns what prevents that, "" if nothing does."""
    try:
        logic.look(task)
    except MedSeqFTError as error:
        return str(error)
    return ""
