"""The modules `qt` and `ctk` for the module's code, and the loader of its .ui file."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from types import ModuleType, SimpleNamespace

from custom_widgets import CTK_WIDGETS
from mrml_widgets import MRML_WIDGETS
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from pythonqt_layer import TABLE, Enumerator, Proxy, PythonQtClass, signal_name

CUSTOM_WIDGETS = (*CTK_WIDGETS, *MRML_WIDGETS)


class UiLoader:
    """QUiLoader with CTK's and MRML's widgets. Only slicer.util.loadUI uses it."""

    def load(self, file: QtCore.QFile) -> Proxy:
        """The root widget. Connections are made by name: Qt's loader refuses those with MRML types."""
        loader = QtUiTools.QUiLoader()
        for kind in CUSTOM_WIDGETS:
            loader.registerCustomWidget(kind)
        tree = ElementTree.fromstring(file.readAll().data())
        connections = list(tree.iterfind("connections/connection"))
        for section in tree.findall("connections"):
            section.clear()
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        root = loader.load(buffer)
        connect(root, connections)
        return Proxy(root)


def connect(root: QtWidgets.QWidget, connections: Iterable[ElementTree.Element]) -> None:
    """Join signals and slots as the .ui says. An unknown name raises; in Slicer it would only be printed."""
    for connection in connections:
        sender, receiver = (widget(root, connection.findtext(end) or "") for end in ("sender", "receiver"))
        signal = getattr(sender, signal_name(sender, connection.findtext("signal") or ""))
        signal.connect(getattr(receiver, (connection.findtext("slot") or "").partition("(")[0]))


def widget(root: QtWidgets.QWidget, name: str) -> QtCore.QObject:
    """The root or one of its descendants."""
    found = root if root.objectName() == name else root.findChild(QtCore.QObject, name)
    if found is None:
        raise AttributeError(f"the .ui has a connection of {name!r}, but no such widget")
    return found


def modules() -> tuple[ModuleType, ModuleType]:
    """The modules `qt` and `ctk`, as far as the table goes."""
    qt, ctk = ModuleType("qt"), ModuleType("ctk")
    for name in TABLE:
        for source in (QtWidgets, QtCore, QtGui):
            if kind := getattr(source, name, None):
                setattr(qt, name, PythonQtClass(kind))
    qt.QFile, qt.QUiLoader = QtCore.QFile, UiLoader  # type: ignore[attr-defined]
    without_input = Enumerator(QtCore.QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
    qt.QEventLoop = SimpleNamespace(ExcludeUserInputEvents=without_input)  # type: ignore[attr-defined]  # all we use
    for kind in CTK_WIDGETS:
        setattr(ctk, kind.__name__, PythonQtClass(kind))
    return qt, ctk
