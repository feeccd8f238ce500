"""System calls in words: which files they are about, and whether they write."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from Faults.seccomp import Notification, text_at

_CREATES = os.O_CREAT | os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_BY_DESCRIPTOR = {"write", "pwrite64", "writev", "pwritev", "pwritev2", "fsync", "fdatasync", "ftruncate", "fallocate"}
_BY_PATH = {"truncate": 0, "mkdir": 0, "rmdir": 0, "creat": 0, "unlink": 0, "mkdirat": 1, "unlinkat": 1}
_TWO_PATHS = {"rename": (0, 1), "link": (0, 1), "renameat": (1, 3), "renameat2": (1, 3), "linkat": (1, 3)}
_NEED_NO_ROOM = {"unlink", "unlinkat", "rmdir"}


@dataclass(frozen=True)
class Call:
    """A system call that changes something: `path` is what it writes, or what a rename makes."""

    name: str
    path: Path
    descriptor: int | None = None
    thread: int = 0

    @property
    def is_flush(self) -> bool:
        return self.name in ("fsync", "fdatasync")

    @property
    def needs_room(self) -> bool:
        """False for what succeeds on a full disk."""
        return self.name not in _NEED_NO_ROOM

    @property
    def opened(self) -> str:
        """What a flush is about, seen through its process."""
        return f"/proc/{self.thread}/fd/{self.descriptor}"


def described(note: Notification) -> Call | None:
    """The call; None if it changes nothing, or its process is gone."""
    try:
        return _described(note)
    except (FileNotFoundError, ProcessLookupError):
        return None


def _described(note: Notification) -> Call | None:
    name, arguments = note.name, note.arguments
    if name in _BY_DESCRIPTOR or name == "sendfile":
        return _of_descriptor(note, arguments[0])
    if name == "copy_file_range":
        return _of_descriptor(note, arguments[2])
    if name in ("open", "openat"):
        place = 0 if name == "open" else 1
        return _of_path(note, place) if arguments[place + 1] & _CREATES else None
    return _of_path(note, _TWO_PATHS[name][1] if name in _TWO_PATHS else _BY_PATH[name])


def _of_descriptor(note: Notification, descriptor: int) -> Call:
    number = descriptor & 0xFFFFFFFF
    path = Path(os.readlink(f"/proc/{note.thread}/fd/{number}"))
    return Call(note.name, path, number, note.thread)


def _of_path(note: Notification, place: int) -> Call:
    path = Path(text_at(note.thread, note.arguments[place]))
    if not path.is_absolute():
        path = _folder_of(note, place) / path
    return Call(note.name, Path(os.path.normpath(path)), thread=note.thread)


def _folder_of(note: Notification, place: int) -> Path:
    """What a relative path is relative to: the folder before it among the arguments, or the current one."""
    at = note.name.endswith(("at", "at2"))
    descriptor = note.arguments[place - 1] & 0xFFFFFFFF if at else 0xFFFFFF9C
    where = "cwd" if descriptor == 0xFFFFFF9C else f"fd/{descriptor}"  # AT_FDCWD
    return Path(os.readlink(f"/proc/{note.thread}/{where}"))
