"""A power cut: only what was flushed is sure to be on the disk. The disk is rebuilt as it may be found afterwards.

What is sure, as POSIX has it: a file's bytes as they were when it was last flushed, a folder's names as they were when
the folder was last flushed. Everything else may have reached the disk, or not, each name and each file for itself; real
file systems lose less. At each call of an act the process is stopped, and four disks are rebuilt from what is sure and
what is there: only what is sure; all names, but only the flushed bytes; a mixture drawn at random; everything (a kill).
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from Faults import checks, seccomp
from Faults.acts import ACTS
from Faults.bench import Kind
from Faults.calls import Call
from Faults.checks import Lost
from Faults.children import KILL

WAYS = ("only what is sure", "all names, flushed bytes", "a mixture", "everything")
_SAMPLED = {"adapt": 12, "import a workspace": 30, "export the workspace": 30}  # hundreds of calls: evenly spread


class Disk:
    """What is sure below a folder. Files and folders are known by their inodes, which stay open: none is used again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[int, dict[str, int]] = {}  # folder -> what it was known to hold when it was flushed
        self._bytes: dict[int, bytes] = {}
        self._open: list[int] = []
        for path in [root, *root.rglob("*")]:
            self.flushed(path)

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def flushed(self, path: Path | str) -> None:
        """A file or folder is on the disk as it is now."""
        descriptor = os.open(path, os.O_RDONLY)
        self._open.append(descriptor)
        inode = os.fstat(descriptor).st_ino
        if os.path.isdir(path):
            self._names[inode] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._bytes[inode] = Path(path).read_bytes()

    def rebuild(self, target: Path, way: str, choose: random.Random) -> None:
        """The disk after a cut just now, as a folder."""
        there = {path.stat().st_ino: path for path in [self.root, *self.root.rglob("*")] if not path.is_symlink()}
        self._folder(self.root.stat().st_ino, target, there, _names_of(way, choose), _bytes_of(way, choose))

    def _folder(self, inode: int, target: Path, there: dict[int, Path], names: _Names, data: _Bytes) -> None:
        target.mkdir()
        now = {e.name: e.inode() for e in os.scandir(there[inode])} if inode in there else {}
        for name, entry in names(self._names.get(inode, {}), now).items():
            is_folder = there[entry].is_dir() if entry in there else entry in self._names
            if is_folder:
                self._folder(entry, target / name, there, names, data)
            else:
                current = there[entry].read_bytes() if entry in there else self._bytes.get(entry, b"")
                (target / name).write_bytes(data(self._bytes.get(entry), current))


_Names = Callable[[dict[str, int], dict[str, int]], dict[str, int]]
_Bytes = Callable[["bytes | None", bytes], bytes]


def _names_of(way: str, choose: random.Random) -> _Names:
    def mixed(sure: dict[str, int], now: dict[str, int]) -> dict[str, int]:
        found = {}
        for name in sorted({*sure, *now}):
            entry = choose.choice((sure, now)).get(name)
            if entry is not None:
                found[name] = entry
        return found

    return {WAYS[0]: lambda sure, now: sure, WAYS[2]: mixed}.get(way, lambda sure, now: now)


def _bytes_of(way: str, choose: random.Random) -> _Bytes:
    def flushed(sure: bytes | None, now: bytes) -> bytes:
        return sure or b""

    def mixed(sure: bytes | None, now: bytes) -> bytes:
        return choose.choice((sure or b"", now, _grown(sure or b"", now)))

    return {WAYS[2]: mixed, WAYS[3]: lambda sure, now: now}.get(way, flushed)


def _grown(sure: bytes, now: bytes) -> bytes:
    """The length is on the disk, of the new bytes the first half: the rest reads as zeros."""
    half = (len(sure) + len(now)) // 2
    return now[:half] + bytes(len(now) - half) if now.startswith(sure) and len(now) > len(sure) else now


class PowerCut(Kind):
    name = "power cut"
    what = (
        "before each call that writes the power fails; the disk is rebuilt in four ways from what was flushed "
        "(fsync of files and folders, seen at the kernel) and what was not"
    )
    acts: tuple[str, ...] = tuple(ACTS)

    @property
    def unavailable(self) -> str:
        return seccomp.unavailable()

    @cached_property
    def _plan(self) -> list[tuple[str, int, str]]:
        """Which act, before which of its calls (0: after the last, when it has said that it is done), and how."""
        plan: list[tuple[str, int, str]] = []
        for name in self.acts:
            calls = self._calls_of(name)
            wanted = min(calls, _SAMPLED.get(name, calls))
            places = [0, *(1 + i * calls // wanted for i in range(wanted))]
            plan += [(name, place, way) for place in places for way in WAYS]
        return plan

    def _calls_of(self, name: str) -> int:
        with self.bench.fresh() as folder:
            seen: list[Call] = []
            self.bench.server.child("Faults.acts:perform", name, folder, watched=True).watch(
                lambda call: seen.append(call) or 0 if call.path.is_relative_to(folder) else 0
            )
        return len(seen)

    @property
    def trials(self) -> int:
        return len(self._plan)

    def run(self, seed: int) -> str:
        name, place, way = self._plan[seed]
        with self.bench.fresh() as folder:
            before = checks.note(folder)
            rebuilt = folder.with_name("rebuilt")
            done = self._cut(name, folder, place, lambda disk: disk.rebuild(rebuilt, way, random.Random(seed)))
            shutil.rmtree(folder)
            rebuilt.rename(folder)
            if done and not ACTS[name].done(folder):
                raise Lost(f"{name} had said that it was done; after the power cut it is not ({way})")
            checks.intact(folder, before, ACTS[name])
            checks.can_be_done_again(folder, before, ACTS[name], self.bench.server)
        return f"{name}, {f'before call {place}' if place else 'after the last call'}, {way}"

    def _cut(self, name: str, folder: Path, place: int, rebuild: Callable[[Disk], None]) -> bool:
        """Let the act go on to the place, then rebuild the disk. Returns whether it was done."""
        disk, seen = Disk(folder), 0

        def decide(call: Call) -> int:
            nonlocal seen
            if not call.path.is_relative_to(folder):
                return 0
            seen += 1
            if seen == place:
                return KILL
            if call.is_flush:
                disk.flushed(call.opened)
            return 0

        try:
            ended = self.bench.server.child("Faults.acts:perform", name, folder, watched=True).watch(decide)
            rebuild(disk)
        finally:
            disk.close()
        return ended.how == "done"
