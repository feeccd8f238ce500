"""Stands in for slicer.parameterNodeWrapper: typed attributes kept in a real vtkMRMLScriptedModuleNode.

Only what MedSeqFT may use: str, int, float, bool, pathlib.Path, an Enum, and references to nodes. Other types raise.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import vtk
from parameter_widgets import Connector, connector_for
from slicer_samples import slicer

PROPERTY = "SlicerParameterName"


@dataclass(frozen=True)
class Default:
    """The value that a new parameter has."""

    value: Any


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    choices: Any

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


@dataclass(frozen=True)
class WithinRange:
    """From `minimum` to `maximum`, both included."""

    minimum: float
    maximum: float

    def validate(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclass(frozen=True)
class Minimum:
    """Not less."""

    minimum: float

    def validate(self, value: float) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be greater than {self.minimum}, is {value}")


@dataclass(frozen=True)
class Maximum:
    """Not more."""

    maximum: float

    def validate(self, value: float) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be less than {self.maximum}, is {value}")


VALIDATORS = (Choice, WithinRange, Minimum, Maximum)
#: How a value becomes the text in the node and back, and what it is without a default.
TEXTS: dict[type, tuple[Callable[[Any], str], Callable[[str], Any], Any]] = {
    str: (str, str, ""),
    int: (str, int, 0),
    float: (str, float, 0.0),
    bool: (str, lambda text: text == "True", False),
    Path: (str, Path, Path()),
}


class Parameter:
    """One attribute: a property of the class, which reads and writes the node each time."""

    def __init__(self, name: str, hint: Any, given: Any) -> None:
        self.name = name
        annotated = typing.get_origin(hint) is typing.Annotated
        self.kind, *self.annotations = typing.get_args(hint) if annotated else (hint,)
        if not isinstance(self.kind, type) or not (self.kind in TEXTS or issubclass(self.kind, (Enum, NODE))):
            raise TypeError(f"the stand-in has no parameter of type {hint} ({name})")
        self.is_node = issubclass(self.kind, NODE)
        defaults = [note.value for note in self.annotations if isinstance(note, Default)]
        self.default = next((value for value in (given, *defaults) if value is not None), self._plain_default())

    def _plain_default(self) -> Any:
        if self.is_node:
            return None
        return next(iter(self.kind)) if issubclass(self.kind, Enum) else TEXTS[self.kind][2]

    def __get__(self, wrapper: Any, _owner: type) -> Any:
        return self if wrapper is None else self.read(wrapper.parameterNode)

    def __set__(self, wrapper: Any, value: Any) -> None:
        self.write(wrapper.parameterNode, value)

    def read(self, node: Any) -> Any:
        if not node.HasParameter(self.name):
            self.write(node, self.default)
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        return self.kind[text] if issubclass(self.kind, Enum) else TEXTS[self.kind][1](text)

    def write(self, node: Any, value: Any) -> None:
        self.validate(value)
        with slicer.util.NodeModify(node):
            if self.is_node:
                node.SetParameter(self.name, "")
                node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            else:
                node.SetParameter(self.name, value.name if isinstance(value, Enum) else str(value))

    def validate(self, value: Any) -> None:
        if value is None and not self.is_node:
            raise ValueError("Value must not be None")
        fits = (int, float) if self.kind is float else self.kind
        # stricter than Slicer: a bool is no number
        if value is not None and (not isinstance(value, fits) or (isinstance(value, bool) and self.kind is not bool)):
            raise TypeError(f"Value must be of type '{self.kind}', is type '{type(value)}' value '{value}'")
        for note in self.annotations:
            if isinstance(note, VALIDATORS):
                note.validate(value)


NODE = slicer.vtkMRMLNode


class Wrapper:
    """What parameterNodeWrapper adds to a class."""

    allParameters: typing.ClassVar[dict[str, Parameter]]  # noqa: N815

    def __init__(self, parameterNode: Any) -> None:  # noqa: N803
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[dict[str, Connector], int]] = {}
        self._tags = 0
        self._showing = False
        for parameter in self.allParameters.values():
            parameter.read(parameterNode)

    def __setattr__(self, name: str, value: Any) -> None:
        """Stricter than Slicer, which lets a misspelt parameter pass."""
        if not (name in self.allParameters or name.startswith("_") or name == "parameterNode"):
            raise AttributeError(f"{type(self).__name__} has no parameter {name!r}")
        super().__setattr__(name, value)

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; found {list(self.allParameters)}")
        return self.allParameters[name]

    def getValue(self, name: str) -> Any:  # noqa: N802
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:  # noqa: N802
        self._parameter(name).write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        return Default(self._parameter(name).default)

    def connectGui(self, gui: Any) -> int:  # noqa: N802
        """Bind every widget of slicer.util.childWidgetVariables that has the dynamic property."""
        named = {widget.property(PROPERTY): widget for widget in vars(gui).values()}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:  # noqa: N802
        connectors = {name: connector_for(widget, self._parameter(name)) for name, widget in mapping.items()}
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.on_changed(lambda name=name, connector=connector: self._read(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._show())
        tag, self._tags = self._tags, self._tags + 1
        self._guis[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, guiTag: int) -> None:  # noqa: N802, N803
        connectors, observer = self._guis.pop(guiTag, ({}, None))
        for connector in connectors.values():
            connector.stop()
        if observer is not None:
            self.RemoveObserver(observer)

    def _read(self, name: str, connector: Connector) -> None:
        if not self._showing:
            self.setValue(name, connector.read())

    def _show(self) -> None:
        if self._showing:
            return
        self._showing = True
        try:
            for connectors, _observer in self._guis.values():
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._showing = False

    def StartModify(self) -> int:  # noqa: N802
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> int:  # noqa: N802, N803
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:  # noqa: N802
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:  # noqa: N802
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:  # noqa: N802
        self.parameterNode.Modified()


def parameterNodeWrapper(described: type) -> type:  # noqa: N802
    """The decorator."""
    hints = typing.get_type_hints(described, include_extras=True)
    found = {name: Parameter(name, hint, getattr(described, name, None)) for name, hint in hints.items()}
    for name, parameter in found.items():
        if hasattr(Wrapper, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        parameter.validate(parameter.default)
    methods = {name: value for name, value in vars(described).items() if name not in ("__dict__", "__weakref__")}
    return type(described.__name__, (Wrapper,), {**methods, **found, "allParameters": found})


def module() -> ModuleType:
    """slicer.parameterNodeWrapper."""
    found = ModuleType("slicer.parameterNodeWrapper")
    for public in (parameterNodeWrapper, Default, *VALIDATORS):
        setattr(found, public.__name__, public)
    return found
