"""Which names the files of an archive may have, so that each lies in its folder on Windows, macOS and Linux alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.files import TEMPORARY_PREFIX
from MedSeqFTLib.workspace.names import is_device

_FORBIDDEN = set('\\:*?"<>|')  # a separator, a drive, a stream or a pattern on Windows
_LONGEST_PART, _LONGEST, _DEEPEST = 200, 1000, 20  # bytes, bytes, folders


def check_member_names(names: Iterable[str], where: str) -> None:
    """Refuse names that could leave their folder, or that some system takes for the same file.

    Args:
        names: relative paths with /.
        where: the archive or workspace, for messages.

    Raises:
        InputError: an unusable name, or two names for one place.
    """
    files: set[str] = set()
    folders: dict[str, str] = {}
    for name in names:
        if problem := _problem(name):
            raise InputError(f"{where} holds {name[:_LONGEST_PART]!r}, which {problem}; nothing was changed.")
        key = _folded(name)
        if key in files or not _fits(name, folders):
            raise InputError(f"{where} holds {name!r} twice, at least on systems that ignore case.")
        files.add(key)
    if both := files & folders.keys():
        raise InputError(f"{where} holds {min(both)!r} as a file and as a folder.")


def _problem(name: str) -> str | None:
    parts = name.split("/")
    if len(name.encode("utf-8", "replace")) > _LONGEST or len(parts) > _DEEPEST:
        return "is too long a path"
    return next((problem for part in parts if (problem := _problem_of_part(part))), None)


def _problem_of_part(part: str) -> str | None:
    if part in ("", ".", ".."):
        return "is no path inside a folder"
    if not part.isprintable() or _FORBIDDEN & set(part) or part != part.strip(" ").rstrip("."):
        return "has a character that not every system allows there"
    if is_device(part):
        return "is the name of a device on Windows"
    if part.startswith(TEMPORARY_PREFIX) or len(part.encode("utf-8")) > _LONGEST_PART:
        return "is no name of a finished file"
    return None


def _fits(name: str, folders: dict[str, str]) -> bool:
    """False if a folder of `name` was spelled otherwise before."""
    parts = name.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if folders.setdefault(_folded(folder), folder) != folder:
            return False
    return True


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
