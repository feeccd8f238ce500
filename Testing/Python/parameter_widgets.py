"""How a widget and a parameter of a parameter node are kept equal, as slicer.parameterNodeWrapper does it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any


class Connector:
    """A widget whose plain value is the parameter's."""

    signal = value = ""

    def __init__(self, widget: Any, parameter: Any) -> None:
        self.widget, self.parameter = widget, parameter
        self._changed: Callable[[], None] | None = None

    def on_changed(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        getattr(self.widget, self.signal).connect(self.changed)

    def stop(self) -> None:
        getattr(self.widget, self.signal).disconnect(self.changed)

    def changed(self) -> None:
        assert self._changed is not None
        self._changed()

    def read(self) -> Any:
        return getattr(self.widget, self.value)

    def write(self, value: Any) -> None:
        setattr(self.widget, self.value, value)


class CheckBox(Connector):
    signal, value = "stateChanged", "checked"


class CheckableButton(Connector):
    signal, value = "toggled", "checked"

    def __init__(self, widget: Any, parameter: Any) -> None:
        super().__init__(widget, parameter)
        widget.checkable = True


class LineEdit(Connector):
    signal, value = "textChanged", "text"


class Number(Connector):
    signal, value = "valueChanged", "value"

    def __init__(self, widget: Any, parameter: Any) -> None:
        super().__init__(widget, parameter)
        notes = [vars(note) for note in parameter.annotations]
        for limit, otherwise in (("minimum", -(2**31)), ("maximum", 2**31 - 1)):
            found = next((note[limit] for note in notes if limit in note), otherwise)
            getattr(widget, f"set{limit.title()}")(found)


class ComboBox(Connector):
    """Needs Choice or an Enum, and fills the box itself."""

    signal = "currentIndexChanged"

    def __init__(self, widget: Any, parameter: Any) -> None:
        super().__init__(widget, parameter)
        if issubclass(parameter.kind, Enum):
            self.choices = list(parameter.kind)
        else:
            choices = next((note.choices for note in parameter.annotations if hasattr(note, "choices")), None)
            if choices is None:
                raise RuntimeError(f"a QComboBox for {parameter.name} requires the Choice annotation to be used.")
            self.choices = list(choices)
        widget.clear()
        for choice in self.choices:
            widget.addItem(self.label(choice))

    @staticmethod
    def label(choice: Any) -> str:
        if not isinstance(choice, Enum):
            return str(choice)
        return str(choice.label()) if hasattr(choice, "label") else choice.name

    def read(self) -> Any:
        return self.choices[self.widget.currentIndex]

    def write(self, value: Any) -> None:
        self.widget.currentIndex = self.choices.index(value)


class PathLineEdit(Connector):
    signal, value = "currentPathChanged", "currentPath"

    def read(self) -> Path:
        return Path(super().read())

    def write(self, value: Path) -> None:
        super().write(str(value))


class DirectoryButton(PathLineEdit):
    signal, value = "directoryChanged", "directory"


class NodeComboBox(Connector):
    signal = "currentNodeChanged"

    def __init__(self, widget: Any, parameter: Any) -> None:
        super().__init__(widget, parameter)
        widget.nodeTypes = (parameter.kind.__name__,)

    def read(self) -> Any:
        return self.widget.currentNode()

    def write(self, value: Any) -> None:
        self.widget.setCurrentNode(value)


#: (class of the widget, type of the parameter)
CONNECTORS: dict[tuple[str, type], type[Connector]] = {
    ("QCheckBox", bool): CheckBox,
    ("QPushButton", bool): CheckableButton,
    ("QLineEdit", str): LineEdit,
    ("QSpinBox", int): Number,
    ("QSlider", int): Number,
    ("QDoubleSpinBox", float): Number,
    **{("QComboBox", kind): ComboBox for kind in (str, int, float, bool)},
    ("ctkPathLineEdit", Path): PathLineEdit,
    ("ctkDirectoryButton", Path): DirectoryButton,
}


def connector_for(widget: Any, parameter: Any) -> Connector:
    """As in Slicer, RuntimeError for a pair that has no connector."""
    name = widget.className()
    if parameter.is_node and name == "qMRMLNodeComboBox":
        return NodeComboBox(widget, parameter)
    if name == "QComboBox" and issubclass(parameter.kind, Enum):
        return ComboBox(widget, parameter)
    if (name, parameter.kind) not in CONNECTORS:
        raise RuntimeError(f"Unable to create GUI connector from datatype '{parameter.kind}' to widget type '{name}'")
    return CONNECTORS[name, parameter.kind](widget, parameter)
