"""The event stream of a job: one JSON object a line, only ever appended, readable while it is being written.

A job may run for days. Whoever needs the whole stream gets it thinned: everything that was told, and of the progress as
much as a curve needs, always with the last of each stage. Memory is bounded by what is kept, not by the file.

A worker that is killed in the middle of a line leaves a torn line. Readers leave it out; the next writer removes it.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.files import append_line, remove_torn_line, storage_errors

_CHATTY = (b'"kind":"message"', b'"kind":"warning"')
EventKind = Literal["queued", "started", "stage", "progress", "message", "warning", "finished", "failed", "cancelled"]
CLOSING: frozenset[str] = frozenset({"finished", "failed", "cancelled"})
_LONGEST_TEXT = 4000  # characters
_CHECKSUM = re.compile(rb',"crc":"([0-9a-f]{8})"\}\s*$')
_TAIL = 65536  # bytes; longer than any line
_BLOCK = 1 << 20  # bytes that are read at once
MOST_PROGRESS = 4000  # events of a thinned stream
_MOST_WARNINGS = 100  # that a reader remembers
_MOST_TOLD = 1000  # messages and warnings each, the newest


def _finite_or_none(value: object) -> object:
    """JSON knows no NaN: a loss that is not a number is told as unknown."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shortened(value: object) -> object:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else value


Loss = Annotated[float | None, BeforeValidator(_finite_or_none)]
Text = Annotated[str | None, BeforeValidator(_shortened)]


def moment() -> datetime:
    """The present moment in UTC, to the millisecond."""
    time = datetime.now(timezone.utc)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


class Event(BaseModel):
    """One line of events.jsonl. Fields that a newer program added are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    time: datetime = Field(default_factory=moment)
    kind: EventKind
    stage: str | None = None
    step: int | None = None  # steps of the stage that are done
    total: int | None = None  # steps of the stage
    loss: Loss = None
    losses: Mapping[str, Loss] = {}
    dice: Mapping[str, Loss] = {}  # of the held-out case that was measured last
    seconds_left: Loss = None  # of the whole job
    device: str | None = None
    text: Text = None
    version: str | None = None  # the model version that a finished job made


class _OlderEvent(Event):
    """A line without a checksum, so of an older program, which knew no other fields; or its checksum is damaged."""

    model_config = ConfigDict(extra="forbid")


class EventWriter:
    """Appends events to a file, each with one write. There is one writer at a time: whoever holds the adapting lock."""

    def __init__(self, path: Path) -> None:
        """Open for appending and remove a torn last line. Raises StorageError."""
        self.path = Path(path)
        with storage_errors(self.path):
            remove_torn_line(self.path)
            self._file = self.path.open("ab", buffering=0)

    def append(self, event: Event) -> None:
        """Write one event; a closing one is on the disk when this returns. Raises StorageError."""
        line = _with_checksum(event.model_dump_json(exclude_none=True).encode("utf-8")) + b"\n"
        with storage_errors(self.path):
            append_line(self._file, self.path, line, flush=event.kind in CLOSING)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Read the whole lines from a byte offset on.

    Returns:
        the events, and the offset to go on from next time. A missing file has no events. A line that cannot be
        understood comes back as a warning.

    Raises:
        WorkspaceError: the file cannot be read.
    """
    data = _read_from(path, offset)
    whole = data[: _end_of_lines(data)]
    return [_parse(line, path) for line in whole.split(b"\n") if line], offset + len(whole)


def thinned_events(path: Path, most: int = MOST_PROGRESS) -> tuple[list[Event], int]:
    """All events, but of the progress at most `most` and the last of each stage, and the newest messages.

    Fed to `Progress`, they lead to the same as all events would, old warnings apart. Returns and raises as
    `read_events`.
    """
    kept, offset = _Kept(most), 0
    for line in _whole_lines(path):
        offset += len(line)
        if line != b"\n":
            kept.take(line)
    return [_parse(line, path) for line in kept.lines()], offset


class _Kept:
    """Lines of a stream, thinned as they come: when there are too many, every other goes, and fewer are taken."""

    def __init__(self, most: int) -> None:
        self._most, self._stride, self._seen = most, 1, 0
        self._progress: list[tuple[int, bytes]] = []  # with the line's number
        self._told: list[tuple[int, bytes]] = []
        self._messages: dict[bytes, deque[tuple[int, bytes]]] = {}
        self._last: list[tuple[int, bytes]] = []  # progress of the present stage, none or one

    def take(self, line: bytes) -> None:
        """The next line."""
        self._seen += 1
        numbered = (self._seen, line)
        if b'"kind":"progress"' in line:
            self._last = [numbered]
            if self._seen % self._stride == 0:
                self._progress.append(numbered)
            if len(self._progress) > self._most:
                self._stride *= 2
                self._progress = self._progress[::2]
            return
        kind = next((kind for kind in _CHATTY if kind in line), None)
        if kind is None:  # a stage begins, or the job ends: the last of what came before stays
            self._told += [*self._last, numbered]
            self._last = []
        else:
            self._messages.setdefault(kind, deque(maxlen=_MOST_TOLD)).append(numbered)

    def lines(self) -> list[bytes]:
        """What is kept, in the order in which it came."""
        messages = (numbered for kept in self._messages.values() for numbered in kept)
        return [line for _number, line in sorted({*self._progress, *self._told, *self._last, *messages})]


def end_of_events(path: Path) -> int:
    """The offset behind the last whole line. Raises WorkspaceError."""
    size = path.stat().st_size if path.exists() else 0
    tail = _read_from(path, max(0, size - _TAIL))
    return max(0, size - _TAIL) + tail.rfind(b"\n") + 1


def last_event(path: Path) -> Event | None:
    """The last whole line, however long the file. None: there is none yet. Raises WorkspaceError."""
    size = path.stat().st_size if path.exists() else 0
    lines = _read_from(path, max(0, size - _TAIL)).split(b"\n")[:-1]
    return _parse(lines[-1], path) if lines else None


def events_of_kind(path: Path, kind: EventKind) -> list[Event]:
    """All events of a kind, without understanding the others: quick for a long file. Raises WorkspaceError."""
    mark = f'"kind":"{kind}"'.encode()  # as it is written; in a text it would be escaped
    return [_parse(line, path) for line in _whole_lines(path) if mark in line]


def _whole_lines(path: Path) -> Iterator[bytes]:
    """With their ends, block by block."""
    offset, rest = 0, b""
    while data := _read_from(path, offset, _BLOCK):
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if _end_of_lines(rest):
        yield rest


def _read_from(path: Path, offset: int, most: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(most)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise WorkspaceError(f"Cannot read {path}: {error.strerror or error}.") from error


def _end_of_lines(data: bytes) -> int:
    """Where the last whole line ends. One with its checksum and a wrong end is damaged, and not still being written."""
    end = data.rfind(b"\n") + 1
    return len(data) if _CHECKSUM.search(data[end:-1]) else end


def _with_checksum(line: bytes) -> bytes:
    """A flipped bit may leave a line that can be read, with another number in it."""
    return line.removesuffix(b"}") + b',"crc":"%08x"}' % zlib.crc32(line)


def _parse(line: bytes, path: Path) -> Event:
    found = _CHECKSUM.search(line)
    try:
        if found is None:
            return _OlderEvent.model_validate_json(line)
        if int(found[1], 16) != zlib.crc32(line[: found.start()] + b"}"):
            raise ValueError
        return Event.model_validate_json(line)
    except ValueError:  # pydantic's errors are, too
        text = f"{path}: a line is damaged or from a newer program and was left out"
        return Event(kind="warning", text=text)


@dataclass
class Progress:
    """What a job is doing, gathered from its events. Feed it every event in turn; it never looks at files."""

    stage: str | None = None
    step: int | None = None
    total: int | None = None
    loss: float | None = None
    losses: dict[str, float | None] = field(default_factory=dict)
    seconds_left: float | None = None
    device: str | None = None
    text: str | None = None  # what it does at present, or why it failed
    warnings: list[str] = field(default_factory=list)  # the newest
    version: str | None = None
    starts: int = 0  # more than one: the job was resumed
    first_time: datetime | None = None
    last_time: datetime | None = None

    def follow(self, event: Event) -> None:
        """Take in the next event."""
        self.first_time = self.first_time or event.time
        self.last_time = event.time
        self.device = event.device or self.device
        self.version = event.version or self.version
        self.starts += event.kind == "started"
        if event.kind == "queued":
            return
        if event.kind == "warning":
            self.warnings = [*self.warnings[1 - _MOST_WARNINGS :], event.text or ""]
        elif event.kind in ("stage", "progress"):
            self._move(event)
        else:
            self.text = event.text
            self.seconds_left = None if event.kind in CLOSING else self.seconds_left

    def _move(self, event: Event) -> None:
        self.stage, self.step, self.total = event.stage, event.step, event.total
        self.loss, self.losses, self.seconds_left = event.loss, dict(event.losses), event.seconds_left
