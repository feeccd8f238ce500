"""qMRMLWidget and the widgets that choose and show nodes, written for PySide6 over the real scene."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from PySide6 import QtCore, QtWidgets
from shiboken6 import Shiboken
from slicer_samples import slicer


class qMRMLWidget(QtWidgets.QWidget):  # noqa: N801
    """The root of a module's .ui: hands the scene on."""

    mrmlSceneChanged = QtCore.Signal(object)  # noqa: N815
    SIGNATURES = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}  # noqa: RUF012

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:  # noqa: N802
        return self._scene


MRML_WIDGETS: tuple[type[QtWidgets.QWidget], ...] = (qMRMLWidget,)
