"""Documents that were read before: taken again as long as their file is the very same, so that thousands cost little.

Nothing of it is on the disk, and nothing outlives the process. A file counts as the same if its inode, size and both
times are; a file or folder that was changed just now is read again in any case, for two changes within one tick of the
clock look alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from MedSeqFTLib.workspace.files import read_json, visible_folders
from MedSeqFTLib.workspace.schema import Document

D = TypeVar("D", bound=Document)
Stamp = tuple[int, int, int, int]  # inode, size, and the times of the last change of content and of anything
_SETTLED = 2.0  # seconds after a change
_NOT_LOOKING: ContextVar[bool] = ContextVar("not_looking", default=False)


class Remembered:
    """Of one open workspace; may be used by several threads."""

    def __init__(self) -> None:
        self._documents: dict[str, tuple[Stamp, Any]] = {}
        self._folders: dict[str, tuple[Stamp, list[str]]] = {}
        self._listings: dict[str, dict[str, Any]] = {}
        self.reads = 0  # of files, so far

    def read(self, path: Path | str, kind: type[D], **expected: str) -> D:
        """As `read_json`. Raises as that."""
        key = str(path)
        stamp, known = _stamp(key), self._documents.get(key)
        if known is not None and known[0] == stamp and type(known[1]) is kind:
            found: D = known[1]
            return found
        self.reads += 1
        document = read_json(Path(path), kind, **expected)
        self._documents.pop(key, None)
        if stamp is not None and _is_settled(
            stamp
        ):  # it was taken before reading: a change meanwhile is seen next time
            self._documents[key] = (stamp, document)
        return document

    def listed(
        self, base: Path, depth: int, file: str, kind: type[D], expected: Callable[[str], Mapping[str, str]]
    ) -> list[D]:
        """The documents `file` of all folders that lie `depth` levels below a folder, by name.

        Args:
            expected: what a document must say, from its folder's path below `base`, with /.

        Raises as `read_json`, and what `expected` raises.
        """
        key, before = str(base), self._listings.get(str(base), {})
        if _NOT_LOOKING.get() and key in self._listings:
            return list(before.values())
        found = {name: self.read(f"{key}/{name}/{file}", kind, **expected(name)) for name in self._names(key, depth)}
        for gone in before.keys() - found.keys():
            self._documents.pop(f"{key}/{gone}/{file}", None)
        self._listings[key] = found
        return list(found.values())

    def is_listed(self, base: Path) -> bool:
        """Whether the documents below a folder were listed before."""
        return str(base) in self._listings

    @contextmanager
    def as_listed(self) -> Iterator[None]:
        """In the body, for this thread, what was listed before stays as it was then: the disk is not asked."""
        token = _NOT_LOOKING.set(True)
        try:
            yield
        finally:
            _NOT_LOOKING.reset(token)

    def _names(self, folder: str, depth: int) -> list[str]:
        names = self._entries(folder)
        if depth == 1:
            return names
        return [f"{name}/{below}" for name in names for below in self._names(f"{folder}/{name}", depth - 1)]

    def _entries(self, folder: str) -> list[str]:
        stamp, known = _stamp(folder), self._folders.get(folder)
        if known is not None and known[0] == stamp:
            return known[1]
        names = [path.name for path in visible_folders(Path(folder))]
        self._folders.pop(folder, None)
        if stamp is not None and _is_settled(stamp):
            self._folders[folder] = (stamp, names)
        return names


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_settled(stamp: Stamp) -> bool:
    return time.time() - max(stamp[2:]) / 1e9 > _SETTLED
