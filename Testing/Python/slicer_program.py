"""The shipped module in a window, without the Slicer program: slicer_boot's scene, PythonQt over PySide6.

The stand-ins offer what Slicer documents of its base classes, and only as far as the module uses it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import pytest

# ImportError: on a computer without a display its system libraries may be missing.
pytest.importorskip("PySide6.QtGui", reason="PySide6 cannot be used, so no window is tested here", exc_type=ImportError)

import parameter_nodes
import slicer_bases
from custom_widgets import ctkPathLineEdit
from mrml_widgets import MRML_WIDGETS, qSlicerScriptedLoadableModuleWidget
from node_combo_box import qMRMLNodeComboBox
from PySide6 import QtCore, QtTest, QtWidgets
from pythonqt_layer import Proxy, PythonQtClass, inside
from pythonqt_modules import modules
from slicer_application import Application
from slicer_boot import scene  # noqa: F401
from slicer_dialogs import Dialogs
from slicer_installers import FakeInstallers
from slicer_samples import slicer

MODULE = Path(__file__).resolve().parents[2] / "MedSeqFT" / "MedSeqFT.py"


def translate(_context: str, text: str) -> str:
    return text


def supply(monkeypatch: pytest.MonkeyPatch, folder: Path | None = None) -> None:
    """Put `qt`, `ctk` and the missing parts of `slicer` where the module imports them from.

    Settings go to `folder`, or to a new temporary one.
    """
    application = Application(folder or Path(tempfile.mkdtemp(prefix="slicer-")))
    for name in [name for name in sys.modules if name.startswith("MedSeqFTLib.scene.panels")]:
        del sys.modules[name]  # they hold the qt of an earlier test, and its settings
    qt, ctk = modules()
    qt.QSettings = application.userSettings  # type: ignore[attr-defined]
    i18n = ModuleType("slicer.i18n")
    i18n.tr, i18n.translate = str, translate  # type: ignore[attr-defined]
    for found in (i18n, slicer_bases.module(), parameter_nodes.module()):
        monkeypatch.setitem(sys.modules, found.__name__, found)
        monkeypatch.setattr(slicer, found.__name__.partition(".")[2], found, raising=False)
    monkeypatch.setitem(sys.modules, "qt", qt)
    monkeypatch.setitem(sys.modules, "ctk", ctk)
    for kind in MRML_WIDGETS:
        monkeypatch.setattr(slicer, kind.__name__, PythonQtClass(kind), raising=False)
    monkeypatch.setattr(slicer, "app", application, raising=False)
    monkeypatch.setattr(slicer.util, "selectModule", select_module)


def select_module(name: str) -> None:
    """slicer.util.selectModule for the opened module, and for those of Slicer that the user may be sent to."""
    opened = getattr(slicer.modules, "medseqft", None)
    if opened is not None and name == opened.name:
        opened.window.switch_to()
    elif name in ("Data", "DICOM", "Plots", "SegmentEditor", "Segmentations", "Tables", "Volumes"):
        opened.window.switch_away()
    else:
        raise AttributeError(f"Slicer has no module {name!r}, as far as the stand-in knows")
    slicer.app.selected = name


class Window:
    """The module, opened. `ui` holds the widgets as the module sees them."""

    def __init__(
        self,
        dialogs: Dialogs | None = None,
        installers: FakeInstallers | None = None,
        raised: list[BaseException] | None = None,
    ) -> None:
        self.dialogs, self.installers = dialogs or Dialogs(), installers or FakeInstallers()
        self.raised = raised if raised is not None else []
        self._open()

    def _open(self) -> None:
        spec = importlib.util.spec_from_file_location("MedSeqFT", MODULE)
        assert spec is not None and spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        sys.modules["MedSeqFT"] = self.module  # as Slicer does
        spec.loader.exec_module(self.module)
        self.frame = qSlicerScriptedLoadableModuleWidget()
        self.frame.setMRMLScene(slicer.mrmlScene)
        QtWidgets.QVBoxLayout(self.frame)
        self.widget = self.module.MedSeqFTWidget(Proxy(self.frame))
        representation = SimpleNamespace(self=lambda: self.widget)
        slicer.modules.medseqft = SimpleNamespace(
            name="MedSeqFT", path=str(MODULE), widgetRepresentation=lambda: representation, window=self
        )
        self.widget.setup()
        self.ui = self.widget.ui
        self.frame.resize(460, 700)
        self.frame.show()
        self.switch_to()

    def switch_to(self) -> None:
        """The user comes to the module. Slicer calls `enter` once for each time."""
        if not self.frame.entered:
            self.frame.entered = True
            if hasattr(self.widget, "enter"):
                self.widget.enter()
        QtWidgets.QApplication.processEvents()

    def switch_away(self) -> None:
        """The user goes to another module."""
        if self.frame.entered:
            self.frame.entered = False
            if hasattr(self.widget, "exit"):
                self.widget.exit()
        QtWidgets.QApplication.processEvents()

    def close(self) -> None:
        """As when Slicer unloads the module."""
        if self.frame is None:
            return
        self.widget.cleanup()
        self.frame.close()
        for part in self.frame.findChildren(QtCore.QObject):
            vars(part).pop("_links", None)  # PySide6 keeps the shells of some parts
        self.frame.deleteLater()
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
        QtWidgets.QApplication.processEvents()
        self.frame = None
        vars(slicer.modules).pop("medseqft")
        sys.modules.pop("MedSeqFT")

    def reopen(self) -> None:
        """As Reload: the old widget is cleaned up, the file is read again."""
        self.close()
        self._open()

    def click(self, target: Proxy, y: int | None = None) -> None:
        """A real mouse click in the middle, or `y` pixels below the upper edge."""
        real = usable(target)
        point = real.rect().center() if y is None else QtCore.QPoint(real.width() // 2, y)
        QtTest.QTest.mouseClick(real, QtCore.Qt.MouseButton.LeftButton, pos=point)
        QtWidgets.QApplication.processEvents()

    def choose(self, target: Proxy, text: str) -> None:
        """As a user chooses the entry `text` of a combo box, or of a box of nodes."""
        real = usable(target)
        box = real.box if isinstance(real, qMRMLNodeComboBox) else real
        entries = [box.itemText(index) for index in range(box.count())]
        assert text in entries, f"there is no {text!r} among {entries}"
        box.setCurrentIndex(entries.index(text))
        box.activated.emit(entries.index(text))
        if not isinstance(real, qMRMLNodeComboBox):
            box.textActivated.emit(text)
        QtWidgets.QApplication.processEvents()

    def type(self, target: Proxy, text: str) -> None:
        """Real keys, instead of what stands in the field, and Return."""
        real = usable(target)
        field = real.edit if isinstance(real, ctkPathLineEdit) else real
        field.selectAll()
        QtTest.QTest.keyClick(field, QtCore.Qt.Key.Key_Delete)
        QtTest.QTest.keyClicks(field, text)
        if isinstance(field, QtWidgets.QLineEdit):
            QtTest.QTest.keyClick(field, QtCore.Qt.Key.Key_Return)
        QtWidgets.QApplication.processEvents()

    def live_on(self) -> None:
        """What was asked for a moment ago is done and shown."""
        self.wait_until(lambda: True)

    def wait_until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Let the window live until `condition` holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert not self.raised, self.raised
            assert time.monotonic() < end, f"not so within {seconds} seconds"
            QtWidgets.QApplication.processEvents()
            time.sleep(0.005)

    def take_raised(self, kind: type[BaseException]) -> BaseException:
        """The exception that a slot raised, which then does not fail the test."""
        assert len(self.raised) == 1 and isinstance(self.raised[0], kind), self.raised
        return self.raised.pop()


def usable(target: Proxy) -> Any:
    """The widget, which a user must be able to see and use."""
    real = inside(target)
    assert real.isVisible(), f"{real.objectName()} cannot be seen"
    assert real.isEnabled(), f"{real.objectName()} is disabled"
    return real


@dataclass
class Program:
    """A Slicer without a module: what was asked of the user, of the installers, and what slots raised."""

    dialogs: Dialogs
    installers: FakeInstallers
    raised: list[BaseException]


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch, settings: Path | None = None) -> Iterator[Program]:
    """Everything that the module imports. At the end nothing may be unexpected or unanswered.

    Settings are forgotten at the end, unless a folder is given that keeps them for the next program.
    """
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    found = Program(Dialogs(), FakeInstallers(), [])
    with tempfile.TemporaryDirectory(prefix="slicer-", ignore_cleanup_errors=True) as folder:
        supply(monkeypatch, settings or Path(folder))
        found.dialogs.install(monkeypatch)
        found.installers.install(monkeypatch)
        monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _traceback: found.raised.append(error))
        yield found
        application.processEvents()
    found.dialogs.check()
    assert found.raised == []


@pytest.fixture
def program(scene: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:  # noqa: F811
    """Slicer over an empty scene, without the module."""
    with running(monkeypatch) as found:
        yield found


@pytest.fixture
def window(scene: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:  # noqa: F811
    """The module in a window over an empty scene. An exception in a slot fails the test."""
    with running(monkeypatch) as found:
        opened = Window(found.dialogs, found.installers, found.raised)
        yield opened
        opened.close()


def metadata(module: ModuleType) -> SimpleNamespace:
    """What the module tells Slicer about itself."""
    parent = SimpleNamespace(path=str(MODULE))
    module.MedSeqFT(parent)
    return parent
