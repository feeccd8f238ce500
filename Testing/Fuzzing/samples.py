"""What a reader to be tried is: valid files, how they are damaged, and the function that reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutations import Mutation


@dataclass(frozen=True)
class Sample:
    """Valid files by their name below a folder; `targets` are damaged, one at a time, as `mutate` does.

    `note` tells `Reader.read` which sample it is; `readable` is False of one that is hostile from the start.
    """

    files: dict[str, bytes]
    targets: tuple[str, ...]
    mutate: Mutation
    note: str = ""
    readable: bool = True


@dataclass(frozen=True)
class Reader:
    """A reader of files that come from outside.

    make: valid samples; it may use the folder.
    reserves: asks for memory that it never fills; being refused it is as good as refusing.
    read: reads a sample that lies in a folder. It may raise nothing but our own errors, and may change nothing there.
    """

    name: str
    make: Callable[[Path], Sequence[Sample]]
    read: Callable[[Path, Sample], object]
    reserves: bool = False


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
