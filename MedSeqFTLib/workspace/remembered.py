"""Documents that were read before: taken again as long as their file is the very same, so that thousands cost little.

Nothing of it is on the disk, and nothing outlives the process. A file counts as the same if its inode, size and both
times are; a file or folder that was changed just now is read again in any case, for two changes within one tick of the
clock look alike.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.workspace.damage import read_each, refuse
from MedSeqFTLib.workspace.files import folder_names, read_json
from MedSeqFTLib.workspace.schema import Document

D = TypeVar("D", bound=Document)
Stamp = tuple[int, int, int, int]  # inode, size, and the times of the last change of content and of anything
T = TypeVar("T")
_Listing = tuple[dict[str, Any], list[MedSeqFTError]]  # what could be read, and what is wrong with the rest
_SETTLED = 2.0  # seconds after a change


@dataclass
class _Listed:
    """What was listed, by the folder above, and what was derived from all of it."""

    listings: dict[str, _Listing] = field(default_factory=dict)
    derived: dict[object, Any] = field(default_factory=dict)


class Remembered:
    """Of one open workspace; may be used by several threads."""

    def __init__(self) -> None:
        self._documents: dict[str, tuple[Stamp, Any]] = {}
        self._folders: dict[str, tuple[Stamp, list[str]]] = {}
        self._newest = _Listed()
        self._complete: _Listed | None = None
        self._thread = threading.local()  # `shown`: what `as_listed` shows
        self.reads = 0  # of files, so far
        self.changes = 0  # times that a listing was another one than before, so far

    def read(self, path: Path | str, kind: type[D], **expected: str) -> D:
        """As `read_json`. Raises as that."""
        key = str(path)
        stamp, known = settled_stamp(key), self._documents.get(key)
        if known is not None and stamp == known[0] and type(known[1]) is kind:
            found: D = known[1]
            return found
        self.reads += 1
        document = read_json(Path(path), kind, **expected)
        self._documents.pop(key, None)
        if stamp is not None:  # it was taken before reading: a change meanwhile is seen next time
            self._documents[key] = (stamp, document)
        return document

    def listed(
        self, base: Path, depth: int, file: str, kind: type[D], expected: Callable[[str], Mapping[str, str]]
    ) -> list[D]:
        """The documents `file` of all folders that lie `depth` levels below a folder, by name.

        Args:
            expected: what a document must say, from its folder's path below `base`, with /.

        Raises as `read_json`, and what `expected` raises, unless the list is only shown: see `damage`.
        """
        key, shown = str(base), self._shown
        listing = shown.listings.get(key) if shown is not None else None
        if listing is None:
            listing = self._list(
                key, depth, file, lambda name: self.read(f"{key}/{name}/{file}", kind, **expected(name))
            )
        found, problems = listing
        refuse(problems)
        return list(found.values())

    def _list(self, key: str, depth: int, file: str, read: Callable[[str], Any]) -> _Listing:
        before = self._newest.listings[key][0] if key in self._newest.listings else None
        found, problems = read_each((name, partial(read, name)) for name in self._names(key, depth))
        for gone in (before or {}).keys() - found.keys():
            self._documents.pop(f"{key}/{gone}/{file}", None)
        if found != before:
            self.changes += 1
            self._newest = _Listed(dict(self._newest.listings))
        for state in (self._newest, self._shown):
            if state is not None:
                state.listings[key] = found, problems
        return found, problems

    def derived(self, key: object, make: Callable[[], T]) -> T:
        """What `make` returned for this key, as long as every listing stays the same since. It is not to be changed."""
        known = (self._shown or self._newest).derived
        if key not in known:
            known[key] = make()
        made: T = known[key]
        return made

    def complete(self) -> None:
        """What is listed and derived by now belongs together: from now on, `as_listed` shows this."""
        self._complete = self._newest

    @contextmanager
    def as_listed(self) -> Iterator[None]:
        """In the body, for this thread, what was listed before the last `complete` stays as it was then.

        The disk is not asked, and whatever another thread lists meanwhile is not waited for.
        """
        before, self._thread.shown = self._shown, self._complete or self._newest
        try:
            yield
        finally:
            self._thread.shown = before

    @property
    def _shown(self) -> _Listed | None:
        found: _Listed | None = getattr(self._thread, "shown", None)
        return found

    def _names(self, folder: str, depth: int) -> list[str]:
        names = self._entries(folder)
        if depth == 1:
            return names
        return [f"{name}/{below}" for name in names for below in self._names(f"{folder}/{name}", depth - 1)]

    def _entries(self, folder: str) -> list[str]:
        stamp, known = settled_stamp(folder), self._folders.get(folder)
        if known is not None and stamp == known[0]:
            return known[1]
        names = folder_names(folder)
        self._folders.pop(folder, None)
        if stamp is not None:
            self._folders[folder] = (stamp, names)
        return names


def settled_stamp(path: Path | str) -> Stamp | None:
    """By which a file or folder is known again; None if there is none, or if it was changed just now."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    latest = max(found.st_mtime_ns, found.st_ctime_ns)
    if time.time() - latest / 1e9 <= _SETTLED:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
