"""slicer.app over PySide6, as far as our code uses it. Settings go to files in a folder of the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from pythonqt_layer import Proxy, inside
from slicer_boot import IOManager
from slicer_samples import slicer


class LayoutManager:
    """Keeps the chosen layout in the real layout node. There are no views."""

    def __init__(self) -> None:
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)

    def layoutLogic(self) -> Any:  # noqa: N802
        return self._logic

    @property
    def layout(self) -> int:
        return int(self._logic.GetLayoutNode().GetViewArrangement())

    def setLayout(self, layout: int) -> None:  # noqa: N802
        self._logic.GetLayoutNode().SetViewArrangement(layout)


class Application:
    """An attribute that is not here raises AttributeError."""

    applicationName = "Slicer"  # noqa: N815
    applicationVersion = "5.12.4"  # noqa: N815
    coreIOManager = staticmethod(IOManager)  # noqa: N815

    def __init__(self, folder: Path) -> None:
        self.temporaryPath = str(folder)
        self.restarts: list[tuple[Any, ...]] = []
        self.selected = ""  # the module that the user was sent to
        self.connections: list[tuple[str, Callable[[], None]]] = []
        self._layouts: LayoutManager | None = None

    def connect(self, signal: str, slot: Callable[[], None]) -> bool:
        """Recorded: there is no start-up here that could be completed."""
        if signal != "startupCompleted()":
            raise AttributeError(f"qSlicerApplication has no signal {signal} here")
        self.connections.append((signal, slot))
        return True

    def testingEnabled(self) -> bool:  # noqa: N802
        """False: dialogues are answered by the test, and not skipped."""
        return False

    def processEvents(self, flags: Any = QtCore.QEventLoop.ProcessEventsFlag.AllEvents) -> None:  # noqa: N802
        QtWidgets.QApplication.processEvents(getattr(flags, "member", flags))

    def topLevelWidgets(self) -> tuple[Proxy, ...]:  # noqa: N802
        """There is no main window among them."""
        return tuple(map(Proxy, QtWidgets.QApplication.topLevelWidgets()))

    def setOverrideCursor(self, cursor: int) -> None:  # noqa: N802
        QtWidgets.QApplication.setOverrideCursor(QtGui.QCursor(inside(cursor)))

    def restoreOverrideCursor(self) -> None:  # noqa: N802
        QtWidgets.QApplication.restoreOverrideCursor()

    def layoutManager(self) -> LayoutManager:  # noqa: N802
        self._layouts = self._layouts or LayoutManager()
        return self._layouts

    def userSettings(self) -> Proxy:  # noqa: N802
        """The same as qt.QSettings()."""
        return self._file("Slicer.ini")

    def settings(self) -> Proxy:
        return self._file("Slicer-revision.ini")

    def _file(self, name: str) -> Proxy:
        return Proxy(QtCore.QSettings(str(Path(self.temporaryPath) / name), QtCore.QSettings.Format.IniFormat))

    def clipboard(self) -> Any:
        return Clipboard

    def palette(self) -> Proxy:
        return Proxy(QtWidgets.QApplication.palette())

    def startupEnvironment(self) -> Proxy:  # noqa: N802
        """Nothing here adds Slicer's own folders, so it is the environment of the test."""
        return Proxy(QtCore.QProcessEnvironment.systemEnvironment())

    def restart(self, *arguments: Any) -> None:
        """Recorded; nothing restarts."""
        self.restarts.append(arguments)


class Clipboard:
    """Text only. A fake: the real one belongs to the desktop."""

    kept = ""

    @classmethod
    def setText(cls, text: str) -> None:  # noqa: N802
        cls.kept = text

    @classmethod
    def text(cls) -> str:
        return cls.kept
