"""PythonQt as 3D Slicer has it, over PySide6: proxies that answer to the names that PythonQt answers to, and no others.

fixtures/pythonqt_names.json lists the names of each class, and which of them are plain values. Any other attribute,
read or written, raises AttributeError, as a misspelt one does in Slicer. Enumerators and flags are plain integers.
"""

from __future__ import annotations

import ctypes
import json
import operator
import sys
from collections.abc import Callable
from enum import Enum, Flag
from functools import cache, partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from PySide6 import QtCore
from shiboken6 import Shiboken

if sys.version_info < (3, 12):
    # PySide6 6.12 gives None away without counting it. Where None can die, Python would end after some thousand calls.
    ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40

TABLE = json.loads((Path(__file__).parent / "fixtures" / "pythonqt_names.json").read_text(encoding="utf-8"))
#: What PythonQt answers to although dir() does not list it, on every QObject.
UNLISTED = frozenset({"deleteLater"})


def parts(name: str) -> list[dict[str, Any]]:
    """The entry of a class, and those of the classes that it is like."""
    entry = TABLE[name]
    return [entry, *parts(entry["like"])] if "like" in entry else [entry]


@cache
def known(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """(all names, those that are plain values) of the nearest class of the table."""
    name = next((base.__name__ for base in kind.__mro__ if base.__name__ in TABLE), None)
    if name is None:
        raise AttributeError(f"{kind.__name__} is not in pythonqt_names.json")
    entries = parts(name)
    values = frozenset(value for entry in entries for value in entry["properties"])
    unlisted = UNLISTED if issubclass(kind, QtCore.QObject) else frozenset()
    return values.union(unlisted, *(entry["names"] for entry in entries)), values


class Enumerator(int):
    """A plain integer for the module, which still fits where PySide6 insists on its own type."""

    member: Enum

    def __new__(cls, member: Enum) -> Enumerator:
        value = super().__new__(cls, member.value)
        value.member = member
        return value

    def _joined(self, other: int, join: Callable[[Any, Any], Any]) -> int:
        """Flags of one kind stay flags; anything else is an integer."""
        if isinstance(other, Enumerator) and type(other.member) is type(self.member) and isinstance(self.member, Flag):
            return Enumerator(join(self.member, other.member))
        return int(join(int(self), int(other)))

    def __or__(self, other: int) -> int:
        return self._joined(other, operator.or_)

    def __and__(self, other: int) -> int:
        return self._joined(other, operator.and_)

    def __xor__(self, other: int) -> int:
        return self._joined(other, operator.xor)

    def __invert__(self) -> int:
        return Enumerator(~self.member) if isinstance(self.member, Flag) else ~int(self)


class SignalProxy:
    """`widget.clicked`: connect, disconnect, and a call that emits it."""

    def __init__(self, sender: QtCore.QObject, name: str, count: int | None = None) -> None:
        self._sender, self._name, self._count = sender, name, count

    def connect(self, slot: Callable[..., Any]) -> bool:
        most = parameter_count(self._sender, self._name) if self._count is None else self._count
        link = COUNTED[most](adapted(slot))
        getattr(self._sender, self._name).connect(link)
        links(self._sender).setdefault(self._name, []).append((slot, link))
        return True

    def disconnect(self, slot: Callable[..., Any]) -> bool:
        """PythonQt gives False for a function that is not connected, here an error: stricter."""
        present = links(self._sender).get(self._name, [])
        found = next((pair for pair in present if pair[0] == slot), None)
        if found is None:
            raise RuntimeError(f"{type(self._sender).__name__}.{self._name} is not connected to {slot}")
        present.remove(found)
        getattr(self._sender, self._name).disconnect(found[1])
        return True

    def __call__(self, *arguments: Any) -> None:
        getattr(self._sender, self._name).emit(*map(inside, arguments))


#: PySide6 gives no more arguments than it finds parameters: none to those of `*arguments`.
COUNTED: tuple[Callable[..., Any], ...] = (
    lambda call: lambda: call(),
    lambda call: lambda a: call(a),
    lambda call: lambda a, b: call(a, b),
    lambda call: lambda a, b, c: call(a, b, c),
    lambda call: lambda a, b, c, d: call(a, b, c, d),
)


def parameter_count(sender: QtCore.QObject, name: str) -> int:
    """The longest form of a signal."""
    meta = sender.metaObject()
    methods = (meta.method(index) for index in range(meta.methodCount()))
    return max(method.parameterCount() for method in methods if method.name().data().decode() == name)


def links(sender: QtCore.QObject) -> dict[str, list[tuple[Callable[..., Any], Callable[..., Any]]]]:
    """The functions connected to each signal of `sender`, with what PySide6 calls for them."""
    return sender.__dict__.setdefault("_links", {})


class Proxy:
    """A Qt object, as PythonQt shows it."""

    __slots__ = ("_qt",)

    def __init__(self, wrapped: Any) -> None:
        object.__setattr__(self, "_qt", wrapped)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Proxy):
            return False
        return other._qt is self._qt or (not isinstance(self._qt, QtCore.QObject) and bool(other._qt == self._qt))

    def __hash__(self) -> int:
        return hash(self._qt)

    def __repr__(self) -> str:
        return f"<PythonQt's {type(self._qt).__name__}>"

    def __getattr__(self, name: str) -> Any:
        names, values = known(type(self._qt))
        if name == "name":  # not in the table, but what slicer.util.childWidgetVariables reads
            return self._qt.objectName()
        if name == "exec_" and "exec" in names:  # both are found in PythonQt
            return self.__getattr__("exec")
        if name not in names:
            raise AttributeError(f"PythonQt's {type(self._qt).__name__} has no attribute {name!r}")
        if name in ("connect", "disconnect"):
            return partial(self._wire, name)
        if name == "className":
            return lambda: type(self._qt).__name__
        if name in values:
            return self._value(name)
        found = getattr(self._qt, name)
        return SignalProxy(self._qt, name) if isinstance(found, QtCore.SignalInstance) else outside(found)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in known(type(self._qt))[1]:
            raise AttributeError(f"PythonQt's {type(self._qt).__name__} has no property {name!r} to set")
        if not self._qt.setProperty(name, inside(value)):
            raise AttributeError(f"the layer cannot set {type(self._qt).__name__}.{name}")

    def _value(self, name: str) -> Any:
        if self._qt.metaObject().indexOfProperty(name) < 0:
            raise AttributeError(f"the layer cannot read {type(self._qt).__name__}.{name}")
        return outside(self._qt.property(name))

    def _wire(self, action: str, signal: str, slot: Callable[..., Any]) -> bool:
        """PythonQt's form with a signature; an unknown signal gives False, here an error: stricter."""
        given = signal.partition("(")[2].strip(" )")
        found = SignalProxy(self._qt, signal_name(self._qt, signal), given.count(",") + 1 if given else 0)
        return bool(getattr(found, action)(slot))


def signal_name(sender: QtCore.QObject, signal: str) -> str:
    """The attribute of PySide6's object for a signature. Python's widgets list those that have MRML types."""
    signature = QtCore.QMetaObject.normalizedSignature(signal).data().decode()
    if name := getattr(sender, "SIGNATURES", {}).get(signature):
        return str(name)
    if sender.metaObject().indexOfSignal(signature) < 0:
        raise AttributeError(f"{type(sender).__name__} has no signal {signal}")
    return signature.partition("(")[0]


def adapted(slot: Callable[..., Any]) -> Callable[..., Any]:
    """What PySide6 calls: arguments become PythonQt's, and no more are given than a function takes."""
    code = getattr(slot, "__code__", None)
    bound = 1 if hasattr(slot, "__self__") else 0
    most = code.co_argcount - bound if code is not None and not code.co_flags & 0x04 else None
    return lambda *arguments: slot(*map(outside, arguments[:most]))


def outside(value: Any) -> Any:
    """What PythonQt would hand to Python: lists are tuples, and every object of Qt is a proxy."""
    if isinstance(value, Shiboken.Object):
        return Proxy(value)
    if isinstance(value, Enum):
        return Enumerator(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(outside, value))
    if callable(value) and not isinstance(value, type):
        return lambda *arguments: outside(value(*map(inside, arguments)))
    return value


def inside(value: Any) -> Any:
    """What PySide6 wants to be given. A function becomes a slot, as for QTimer.singleShot."""
    if isinstance(value, Proxy):
        return value._qt
    if isinstance(value, PythonQtClass):
        return value._kind
    if isinstance(value, (list, tuple)):
        return [inside(element) for element in value]
    if isinstance(value, (FunctionType, MethodType, partial)):
        return adapted(value)
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
