"""The widgets of CTK that the module's .ui names, as far as it uses them, written for PySide6."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

HEADER = 26  # pixels of a collapsible button's bar
DIRS, FILES = 0x001, 0x002  # of QDir::Filter


def setting(name: str, kind: Any) -> Any:
    """A property of Qt that is kept in `_settings` and changes nothing that is seen."""

    def change(self: Any, value: Any) -> None:
        self._settings[name] = value

    return QtCore.Property(kind, lambda self: self._settings[name], change)


class ctkCollapsibleButton(QtWidgets.QAbstractButton):  # noqa: N801
    """A bar with a text; a click on it shows and hides what lies below."""

    contentsCollapsed = QtCore.Signal(bool)  # noqa: N815

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = self._forcing = False
        self._hidden: set[QtWidgets.QWidget] = set()
        self.setContentsMargins(0, HEADER, 0, 0)
        self.clicked.connect(lambda: self.setCollapsed(not self._collapsed))

    def isCollapsed(self) -> bool:  # noqa: N802
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:  # noqa: N802
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self._set_visibilities()
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def _set_visibilities(self) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
            self._set_visibility(child)

    def _set_visibility(self, child: QtWidgets.QWidget) -> None:
        """As CTK: not before the button was shown, and what was hidden by itself stays hidden when it is unfolded."""
        if self.testAttribute(QtCore.Qt.WidgetAttribute.WA_WState_Created):
            self._forcing = True
            child.setVisible(not self._collapsed and child not in self._hidden)
            self._forcing = False

    def showEvent(self, event: QtGui.QShowEvent) -> None:  # noqa: N802
        self._set_visibilities()
        super().showEvent(event)

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """Notes what is shown or hidden by itself; nothing is seen of it while the button is folded."""
        if not self._forcing and isinstance(child, QtWidgets.QWidget):
            if event.type() == QtCore.QEvent.Type.HideToParent:
                self._hidden.add(child)
            elif event.type() == QtCore.QEvent.Type.ShowToParent:
                self._hidden.discard(child)
                self._set_visibility(child)
        return False

    collapsed = QtCore.Property(bool, isCollapsed, setCollapsed)

    def childEvent(self, event: QtCore.QChildEvent) -> None:  # noqa: N802
        """What the .ui puts into a collapsed button after `collapsed` was read stays hidden, too."""
        if event.added() and isinstance(event.child(), QtWidgets.QWidget):
            event.child().installEventFilter(self)
            if self._collapsed:
                self._set_visibility(event.child())
        super().childEvent(event)

    def hitButton(self, position: QtCore.QPoint) -> bool:  # noqa: N802
        return position.y() < HEADER

    def sizeHint(self) -> QtCore.QSize:  # noqa: N802
        inner = self.layout().sizeHint() if self.layout() and not self._collapsed else QtCore.QSize(100, HEADER)
        return inner.expandedTo(QtCore.QSize(100, HEADER))

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:  # noqa: N802
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), HEADER)
        option.text = self.text()
        QtWidgets.QStylePainter(self).drawControl(QtWidgets.QStyle.ControlElement.CE_PushButton, option)


class ctkPathLineEdit(QtWidgets.QWidget):  # noqa: N801
    """A path that is typed, or chosen with the button."""

    currentPathChanged = QtCore.Signal(str)  # noqa: N815
    validInputChanged = QtCore.Signal(bool)  # noqa: N815

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._history: list[str] = []
        self._settings: dict[str, Any] = {"filters": 0, "nameFilters": [], "settingKey": "", "showHistoryButton": True}
        self.edit, self.button = QtWidgets.QLineEdit(self), QtWidgets.QToolButton(self)
        self.button.setText("...")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.edit)
        layout.addWidget(self.button)
        self.edit.textChanged.connect(self.currentPathChanged)
        self.button.clicked.connect(self.browse)

    def browse(self) -> None:
        """The dialogue chooses a folder if the filters ask for folders only, else a file."""
        folder = bool(self._settings["filters"] & DIRS) and not self._settings["filters"] & FILES
        ask = QtWidgets.QFileDialog.getExistingDirectory if folder else QtWidgets.QFileDialog.getOpenFileName
        found = ask(self, "", self.edit.text())
        if path := found if isinstance(found, str) else found[0]:
            self.edit.setText(path)

    def addCurrentPathToHistory(self) -> None:  # noqa: N802
        if self.edit.text() and self.edit.text() not in self._history:
            self._history.insert(0, self.edit.text())

    def setCurrentPath(self, path: str) -> None:  # noqa: N802
        self.edit.setText(path)

    currentPath = QtCore.Property(str, lambda self: self.edit.text(), setCurrentPath)  # noqa: N815
    showBrowseButton = QtCore.Property(  # noqa: N815
        bool, lambda self: not self.button.isHidden(), lambda self, shown: self.button.setVisible(shown)
    )
    filters = setting("filters", int)
    nameFilters = setting("nameFilters", "QStringList")  # noqa: N815
    settingKey = setting("settingKey", str)  # noqa: N815
    showHistoryButton = setting("showHistoryButton", bool)  # noqa: N815


class ctkDirectoryButton(QtWidgets.QWidget):  # noqa: N801
    """A button that shows a folder and chooses another one. As in CTK, the folder is absolute, and never empty."""

    directoryChanged = QtCore.Signal(str)  # noqa: N815
    directorySelected = QtCore.Signal(str)  # noqa: N815

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings: dict[str, Any] = {"caption": "", "text": ""}
        self._directory = QtCore.QDir()
        self.button = QtWidgets.QPushButton(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        self.button.clicked.connect(self.browse)
        self._show()

    def _show(self) -> None:
        self.button.setText(self._settings["text"] or self._directory.absolutePath())

    def browse(self) -> None:
        found = QtWidgets.QFileDialog.getExistingDirectory(self, self._settings["caption"], self._get())
        if found:
            self._set(found)
            self.directorySelected.emit(self._get())

    def _get(self) -> str:
        return self._directory.absolutePath()

    def _set(self, path: str) -> None:
        new = QtCore.QDir(path)
        if new != self._directory:
            self._directory = new
            self._show()
            self.directoryChanged.emit(self._get())

    directory = QtCore.Property(str, _get, _set)
    caption = setting("caption", str)
    text = setting("text", str)


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):  # noqa: N801
    """A group with a title; a click on its mark shows and hides what lies below."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.toggled.connect(self._fold)

    def _fold(self, shown: bool) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
            child.setVisible(shown)

    def childEvent(self, event: QtCore.QChildEvent) -> None:  # noqa: N802
        """What the .ui puts into a folded group stays hidden, too."""
        if event.added() and not self.isChecked() and isinstance(event.child(), QtWidgets.QWidget):
            event.child().setVisible(False)
        super().childEvent(event)

    collapsed = QtCore.Property(
        bool, lambda self: not self.isChecked(), lambda self, folded: self.setChecked(not folded)
    )


class ctkMenuButton(QtWidgets.QPushButton):  # noqa: N801
    """A button with a menu."""


CTK_WIDGETS: tuple[type[QtWidgets.QWidget], ...] = (
    ctkCollapsibleButton,
    ctkCollapsibleGroupBox,
    ctkDirectoryButton,
    ctkMenuButton,
    ctkPathLineEdit,
)
