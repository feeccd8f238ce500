"""The widgets of CTK that the module's .ui names, as far as it uses them, written for PySide6."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

HEADER = 26  # pixels of a collapsible button's bar


class ctkCollapsibleButton(QtWidgets.QAbstractButton):  # noqa: N801
    """A bar with a text; a click on it shows and hides what lies below."""

    contentsCollapsed = QtCore.Signal(bool)  # noqa: N815

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self.setContentsMargins(0, HEADER, 0, 0)
        self.clicked.connect(lambda: self.setCollapsed(not self._collapsed))

    def isCollapsed(self) -> bool:  # noqa: N802
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:  # noqa: N802
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
            child.setVisible(not collapsed)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    collapsed = QtCore.Property(bool, isCollapsed, setCollapsed)

    def childEvent(self, event: QtCore.QChildEvent) -> None:  # noqa: N802
        """What the .ui puts into a collapsed button after `collapsed` was read stays hidden, too."""
        if event.added() and self._collapsed and isinstance(event.child(), QtWidgets.QWidget):
            event.child().setVisible(False)
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


CTK_WIDGETS: tuple[type[QtWidgets.QWidget], ...] = (ctkCollapsibleButton,)
