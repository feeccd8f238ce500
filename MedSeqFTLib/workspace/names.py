"""Names that people give to tasks, cases, versions and jobs. They become folder names on every system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PureWindowsPath

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.schema import NAME_PATTERN

_DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
_LONGEST = 64


def checked_name(text: str, what: str) -> str:
    """Return `text` if it can be a folder name on Windows, macOS and Linux alike.

    Args:
        text: the name that was given.
        what: what it names, for the message, for instance "task".

    Raises:
        InputError: the name is unusable; the message says which name and what is allowed.
    """
    if not re.fullmatch(NAME_PATTERN, text):
        raise InputError(
            f"The {what} name {text!r} cannot be used: take 1 to {_LONGEST} letters a-z, digits, '-', '_' or '.', "
            "beginning with a letter or digit and not ending with a dot."
        )
    if is_device(text):
        raise InputError(f"The {what} name {text!r} cannot be used: Windows keeps it for a device; take another name.")
    return text


def is_device(text: str) -> bool:
    """True if Windows keeps a file name for a device, whatever its suffix."""
    return text.split(".")[0].strip().lower() in _DEVICES


def inner_path(text: str) -> tuple[str, ...] | None:
    """The parts of a path below a folder, as a file declares it with / or \\; None if it is none on every system.

    Refused are absolute paths, drives, "..", streams (a:b), names of devices, and names that Windows would shorten.
    """
    windows = PureWindowsPath(text)  # reads / and \\ alike
    if windows.drive or windows.root or not windows.parts:
        return None
    return windows.parts if all(_is_file_name(part) for part in windows.parts) else None


def is_file_name(text: str) -> bool:
    """True for the plain name of a file in some folder, on every system."""
    return inner_path(text) == (text,)


def _is_file_name(part: str) -> bool:
    return part.isprintable() and part == part.rstrip(". ") and not set(part) & set(':*?"<>|') and not is_device(part)


def name_from(text: str, what: str) -> str:
    """Make a usable name of a file's name: accents are dropped, anything else unusable becomes '-'.

    Raises:
        InputError: nothing usable is left.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip(".-_")[:_LONGEST].rstrip(".")
    return checked_name(name, what)


def free_name(name: str, taken: Iterable[str]) -> str:
    """The first of NAME, NAME-2, NAME-3, ... that is not taken, on systems that ignore case, too."""
    used = {other.casefold() for other in taken}
    endings = ("", *(f"-{number}" for number in range(2, len(used) + 2)))
    names = (name[: _LONGEST - len(ending)].rstrip(".") + ending for ending in endings)
    return next(free for free in names if free.casefold() not in used)


def same_name(first: str, second: str) -> bool:
    """True if both would be one folder on a system that ignores case."""
    return first.casefold() == second.casefold()
