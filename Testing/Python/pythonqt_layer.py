"""PythonQt as 3D Slicer has it, over PySide6: proxies that answer to the names that PythonQt answers to, and no others.

fixtures/pythonqt_names.json lists the names of each class, and which of them are plain values. Any other attribute,
read or written, raises AttributeError, as a misspelt one does in Slicer. Enumerators and flags are plain integers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from custom_widgets import CUSTOM_WIDGETS
from PySide6 import QtCore, QtUiTools, QtWidgets

TABLE = json.loads((Path(__file__).parent / "fixtures" / "pythonqt_names.json").read_text(encoding="utf-8"))


@cache
def known(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """(all names, those that are plain values) of the nearest class of the table."""
    name = next((base.__name__ for base in kind.__mro__ if base.__name__ in TABLE), None)
    if name is None:
        raise AttributeError(f"{kind.__name__} is not in pythonqt_names.json")
    entry = TABLE[name]
    parts = [entry, TABLE[entry["like"]]] if "like" in entry else [entry]
    values = frozenset(value for part in parts for value in part["properties"])
    return values.union(*(part["names"] for part in parts)), values


class Enumerator(int):
    """A plain integer for the module, which still fits where PySide6 insists on its own type."""

    member: Enum

    def __new__(cls, member: Enum) -> Enumerator:
        value = super().__new__(cls, member.value)
        value.member = member
        return value


class SignalProxy:
    """`widget.clicked`: connect and disconnect only."""

    def __init__(self, signal: Any) -> None:
        self._signal = signal

    def connect(self, slot: Callable[..., Any]) -> bool:
        self._signal.connect(adapted(slot))
        return True


class Proxy:
    """A Qt object, as PythonQt shows it."""

    __slots__ = ("_qt",)

    def __init__(self, wrapped: Any) -> None:
        object.__setattr__(self, "_qt", wrapped)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and other._qt is self._qt

    def __hash__(self) -> int:
        return hash(self._qt)

    def __getattr__(self, name: str) -> Any:
        names, values = known(type(self._qt))
        if name == "name":  # not in the table, but what slicer.util.childWidgetVariables reads
            return self._qt.objectName()
        if name not in names:
            raise AttributeError(f"PythonQt's {type(self._qt).__name__} has no attribute {name!r}")
        if name == "connect":
            return self._connect
        if name == "className":
            return lambda: type(self._qt).__name__
        return self._value(name) if name in values else outside(getattr(self._qt, name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in known(type(self._qt))[1]:
            raise AttributeError(f"PythonQt's {type(self._qt).__name__} has no property {name!r} to set")
        if not self._qt.setProperty(name, inside(value)):
            raise AttributeError(f"the layer cannot set {type(self._qt).__name__}.{name}")

    def _value(self, name: str) -> Any:
        if self._qt.metaObject().indexOfProperty(name) < 0:
            raise AttributeError(f"the layer cannot read {type(self._qt).__name__}.{name}")
        return outside(self._qt.property(name))

    def _connect(self, signal: str, slot: Callable[..., Any]) -> bool:
        """PythonQt's form with a signature; an unknown signal gives False, here an error: stricter."""
        signature = QtCore.QMetaObject.normalizedSignature(signal).data().decode()
        if self._qt.metaObject().indexOfSignal(signature) < 0:
            raise AttributeError(f"{type(self._qt).__name__} has no signal {signal}")
        getattr(self._qt, signal.partition("(")[0]).connect(adapted(slot))
        return True


def adapted(slot: Callable[..., Any]) -> Callable[..., Any]:
    """What PySide6 calls: arguments become PythonQt's, and no more are given than a function takes."""
    code = getattr(slot, "__code__", None)
    bound = 1 if hasattr(slot, "__self__") else 0
    most = code.co_argcount - bound if code is not None and not code.co_flags & 0x04 else None
    return lambda *arguments: slot(*map(outside, arguments[:most]))


def outside(value: Any) -> Any:
    """What PythonQt would hand to Python."""
    if isinstance(value, QtCore.SignalInstance):
        return SignalProxy(value)
    if isinstance(value, (QtCore.QObject, QtWidgets.QTreeWidgetItem)):
        return Proxy(value)
    if isinstance(value, Enum):
        return Enumerator(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(outside, value))
    if callable(value) and not isinstance(value, type):
        return lambda *arguments: outside(value(*map(inside, arguments)))
    return value


def inside(value: Any) -> Any:
    """What PySide6 wants to be given."""
    if isinstance(value, Proxy):
        return value._qt
    return value.member if isinstance(value, Enumerator) else value


class PythonQtClass:
    """A class of the module `qt`: it can be called, and it has the static names of the table."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __call__(self, *arguments: Any) -> Proxy:
        return Proxy(self._kind(*map(inside, arguments)))

    def __getattr__(self, name: str) -> Any:
        if name not in known(self._kind)[0]:
            raise AttributeError(f"PythonQt's {self._kind.__name__} has no attribute {name!r}")
        return outside(getattr(self._kind, name))


class UiLoader:
    """QUiLoader with CTK's and MRML's widgets. Only slicer.util.loadUI uses it."""

    def load(self, file: QtCore.QFile) -> Proxy:
        loader = QtUiTools.QUiLoader()
        for kind in CUSTOM_WIDGETS:
            loader.registerCustomWidget(kind)
        return Proxy(loader.load(file))


def modules() -> tuple[ModuleType, ModuleType]:
    """The modules `qt` and `ctk`, as far as the table goes."""
    qt, ctk = ModuleType("qt"), ModuleType("ctk")
    for name in TABLE:
        if kind := getattr(QtWidgets, name, None) or getattr(QtCore, name, None):
            setattr(qt, name, PythonQtClass(kind))
    qt.QFile, qt.QUiLoader = QtCore.QFile, UiLoader  # type: ignore[attr-defined]
    for kind in CUSTOM_WIDGETS:
        setattr(ctk if kind.__name__.startswith("ctk") else qt, kind.__name__, PythonQtClass(kind))
    return qt, ctk
