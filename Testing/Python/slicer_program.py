"""The shipped module in a window, without the Slicer program: slicer_boot's scene, PythonQt over PySide6.

The stand-ins offer what Slicer documents of its base classes, and only as far as the module uses it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import pytest

# ImportError: on a computer without a display its system libraries may be missing.
pytest.importorskip("PySide6.QtGui", reason="PySide6 cannot be used, so no window is tested here", exc_type=ImportError)

from PySide6 import QtCore, QtTest, QtWidgets
from pythonqt_layer import Proxy, inside
from pythonqt_modules import modules
from slicer_boot import scene  # noqa: F401
from slicer_samples import slicer

MODULE = Path(__file__).resolve().parents[2] / "MedSeqFT" / "MedSeqFT.py"


class ModuleBase:
    """ScriptedLoadableModule."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent


class WidgetBase:
    """ScriptedLoadableModuleWidget."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.layout = parent.layout()

    def setup(self) -> None:
        """Slicer adds its Reload buttons here."""

    def resourcePath(self, name: str) -> str:  # noqa: N802
        return str(MODULE.parent / "Resources" / name)


def translate(_context: str, text: str) -> str:
    return text


def base_classes() -> ModuleType:
    found = ModuleType("slicer.ScriptedLoadableModule")
    found.ScriptedLoadableModule = ModuleBase  # type: ignore[attr-defined]
    found.ScriptedLoadableModuleWidget = WidgetBase  # type: ignore[attr-defined]
    found.ScriptedLoadableModuleLogic = type("ScriptedLoadableModuleLogic", (), {})  # type: ignore[attr-defined]
    found.ScriptedLoadableModuleTest = type("ScriptedLoadableModuleTest", (), {})  # type: ignore[attr-defined]
    return found


def supply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `qt`, `ctk` and the missing parts of `slicer` where the module imports them from."""
    qt, ctk = modules()
    i18n = ModuleType("slicer.i18n")
    i18n.tr, i18n.translate = str, translate  # type: ignore[attr-defined]
    for name, found in (("qt", qt), ("ctk", ctk), ("slicer.i18n", i18n), (base_classes().__name__, base_classes())):
        monkeypatch.setitem(sys.modules, name, found)
    monkeypatch.setattr(slicer, "i18n", i18n, raising=False)
    monkeypatch.setattr(slicer.app, "applicationVersion", "5.12.4", raising=False)


class Window:
    """The module, opened. `ui` holds the widgets as the module sees them."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("MedSeqFT", MODULE)
        assert spec is not None and spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.frame = QtWidgets.QWidget()
        QtWidgets.QVBoxLayout(self.frame)
        self.widget = self.module.MedSeqFTWidget(Proxy(self.frame))
        self.widget.setup()
        self.ui = self.widget.ui
        self.frame.resize(460, 700)
        self.frame.show()
        QtWidgets.QApplication.processEvents()

    def click(self, target: Proxy, y: int | None = None) -> None:
        """A real mouse click in the middle, or `y` pixels below the upper edge."""
        real = inside(target)
        point = real.rect().center() if y is None else QtCore.QPoint(real.width() // 2, y)
        QtTest.QTest.mouseClick(real, QtCore.Qt.MouseButton.LeftButton, pos=point)
        QtWidgets.QApplication.processEvents()


@pytest.fixture
def window(scene: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:  # noqa: F811
    """The module in a window over an empty scene. An exception in a slot fails the test."""
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    supply(monkeypatch)
    raised: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _traceback: raised.append(error))
    opened = Window()
    yield opened
    opened.frame.close()
    opened.frame.deleteLater()
    application.processEvents()
    assert raised == []


def metadata(module: ModuleType) -> SimpleNamespace:
    """What the module tells Slicer about itself."""
    parent = SimpleNamespace()
    module.MedSeqFT(parent)
    return parent
