"""Published checkpoint files, read without running anything that is in them; and safetensors files, written.

A torch file is a pickle, which may name any function to be called. Here PyTorch's restricted reader builds tensors and
plain containers; a short list of harmless classes that training scripts leave behind becomes a placeholder; anything
else is refused by name.
"""

from __future__ import annotations

import os
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from MedSeqFTLib.errors import InputError

#: A stranger's byte code can break any operation of the reader.
UNREADABLE = (
    UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError,
    RuntimeError, MemoryError, ImportError, struct.error, SafetensorError, zipfile.BadZipFile,
)  # fmt: skip
_MOST_ENTRIES = 200_000  # of all containers of a file together
_DEEPEST = 32  # containers within containers
_SCANNED = 64 << 20  # bytes of a pickle that are searched for a name
#: PyTorch's reader makes one of any length that a pickle asks for, however small the pickle is.
_BYTE_ARRAY = b"bytearray\n"
#: Beginnings of what PyTorch's reader knows by itself.
_EXPECTED = ("torch.", "collections.", "_codecs.encode", "builtins.complex", "builtins.set")
_ADVICE = "ask its publisher for a safetensors file, or for a file with nothing but the state dict"
Place = tuple[str, ...]  # keys from container to container


class Inert:
    """Stands for an object that is no tensor. It takes whatever it is built from and does nothing with it."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _plain_dict(*_: object) -> dict[object, object]:
    """Stands for the constructor of a defaultdict."""
    return {}


#: What published checkpoints hold beside tensors: command-line arguments, paths, dates, numbers and tables of numpy.
_HARMLESS = (
    "argparse.Namespace",
    *(f"builtins.{kind}" for kind in ("bool", "dict", "float", "int", "list", "slice", "str", "tuple")),
    *(f"datetime.{kind}" for kind in ("date", "datetime", "timedelta")),
    *(f"pathlib{module}.{kind}Path" for module in ("", "._local")
      for kind in ("", "Posix", "PurePosix", "Pure", "Windows", "PureWindows")),
    *(f"numpy.{core}.multiarray.{function}" for core in ("core", "_core") for function in ("scalar", "_reconstruct")),
    *(f"numpy.{kind}" for kind in ("dtype", "ndarray", "float32", "float64", "int64")),
)  # fmt: skip
_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((Inert, name) for name in _HARMLESS),
    (_plain_dict, "collections.defaultdict"),
]


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file by their path through its containers, and a safetensors file's own remarks.

    The tensors may be views of the mapped file: they cost memory only where they are read.
    """

    paths: Mapping[Place, Tensor]
    metadata: Mapping[str, str]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by dotted names."""
        return self.within(())

    def within(self, container: Place) -> dict[str, Tensor]:
        """The tensors of one container, for instance ("state_dict",), by dotted names; empty without such a one."""
        depth = len(container)
        return {".".join(path[depth:]): tensor for path, tensor in self.paths.items() if path[:depth] == container}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a safetensors file or a torch file in either of its two formats.

    Raises:
        InputError: no such file, or it is damaged, is no checkpoint, asks for code, or holds unusual tensors.
    """
    try:
        begin = _beginning(path)
        if begin[8:9] == b"{":
            return _read_safetensors(path)
        if begin[:2] == b"PK":
            _check_archive(path)
            return _torch_checkpoint(path, mapped=True)
        if begin[:1] == b"\x80":
            return _torch_checkpoint(path, mapped=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    raise InputError(f"{path} is no checkpoint: expected a PyTorch file (.pt, .pth, .model) or a safetensors file.")


def _beginning(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the checkpoint file in it.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file.")
    with path.open("rb") as file:
        begin = file.read(16)
    if not begin:
        raise InputError(f"{path} is empty; download it again.")
    return begin


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors: dict[Place, Tensor] = {(name,): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
            return Checkpoint(tensors, file.metadata() or {})
    except UNREADABLE as error:
        raise _damaged(path, "safetensors file", error) from error


def _check_archive(path: Path) -> None:
    """Refuse what PyTorch never writes, above all entries that claim to hold more than the file does."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except UNREADABLE as error:
        raise _damaged(path, "PyTorch file", error) from error
    names = [entry.filename.partition("/")[2] for entry in entries]
    if "constants.pkl" in names:
        raise InputError(f"{path} is a TorchScript program, not a checkpoint; {_ADVICE}.")
    if "data.pkl" not in names:
        raise InputError(f"{path} is a zip archive without PyTorch's data.pkl, not a checkpoint; unpack it first.")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > path.stat().st_size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(
            f"{path} is no checkpoint as PyTorch writes them: its parts are packed or larger than the file."
        )


def _torch_checkpoint(path: Path, *, mapped: bool) -> Checkpoint:
    try:
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with a file is told below
            if _BYTE_ARRAY in _pickle(path):
                raise UnpicklingError(f"GLOBAL {_BYTE_ARRAY.strip().decode()}")
            content = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except UNREADABLE as error:
        told = re.search(r"GLOBAL (\S+)", str(error))
        name = _first_unknown(path) or (told and told[1])
        if name is None:
            raise _damaged(path, "PyTorch file", error) from error
        raise InputError(
            f"{path} asks for {name}: such a file could run code on this computer, or fill its memory, so it is not "
            f"read; {_ADVICE}."
        ) from None
    size = path.stat().st_size
    return Checkpoint({place: _plain(path, place, tensor, size) for place, tensor in _tensors(path, content)}, {})


def one_line(error: BaseException) -> str:
    """What a library says, in one line without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _damaged(path: Path, kind: str, error: BaseException) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
    return InputError(f"{path} is no readable {kind} ({reason}): it is damaged or not wholly downloaded; get it again.")


def _first_unknown(path: Path) -> str | None:
    """The first thing that a file asks for and that is neither harmless nor PyTorch's own, as far as that can be seen.

    PyTorch's reader names it too, but not in pickles of newer protocols, and not as long as the file is odd otherwise.
    """
    try:
        names = _asked_for(_pickle(path))
        return next((name for name in names if name not in _HARMLESS and not name.startswith(_EXPECTED)), None)
    except UNREADABLE:
        return None


def _pickle(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return file.read(_SCANNED)
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as member:
            return member.read(_SCANNED)


def _asked_for(pickle: bytes) -> Iterator[str]:
    """The classes and functions that a pickle names. Nothing is run."""
    strings: list[str] = []
    for operation, argument, _ in pickletools.genops(pickle):
        if operation.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".").replace("__builtin__.", "builtins.")
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _tensors(path: Path, content: Any) -> Iterator[tuple[Place, Tensor]]:
    """Every tensor in nested dictionaries. A file that nests without end, or repeats itself, is given up."""
    stack: list[tuple[Place, Any]] = [((), content)]
    entries = 0
    while stack:
        place, value = stack.pop()
        if isinstance(value, Tensor):
            yield place, value
        elif isinstance(value, dict):
            entries += len(value)
            if entries > _MOST_ENTRIES or len(place) > _DEEPEST:
                raise InputError(f"{path} is no checkpoint: its containers have no end.")
            inside = [((*place, str(key)), entry) for key, entry in dict.items(value)]
            stack += reversed(inside)


def _plain(path: Path, place: Place, tensor: Tensor, size: int) -> Tensor:
    """The tensor without anything that the file attached to it.

    Refuses what is not simply numbers in the file, such as sparse, quantised or endlessly repeated tensors.
    """
    name, plain = ".".join(place), Tensor.detach(tensor)
    if plain.is_quantized or plain.is_nested or plain.layout is not torch.strided or plain.device.type != "cpu":
        kind = "quantised" if plain.is_quantized else f"{plain.layout} on {plain.device}"
        raise InputError(f"{path} holds {name} as an unusual tensor ({kind}); only plain dense tensors are read.")
    if plain.numel() * plain.element_size() > size:
        raise InputError(f"{path} is no checkpoint: its tensor {name} claims to be larger than the file.")
    return plain


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in place. Raises OSError with the system's number, as Python's own writing does."""
    try:
        save_file(dict(tensors), path, metadata=dict(metadata))
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path), code) from error
