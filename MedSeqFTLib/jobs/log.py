"""worker.log: what a worker prints. It is turned over when it has grown long, as a job may run for days."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LOG_FILE = "worker.log"
LONGEST = 1 << 20  # bytes; the part before lies beside it
_TAIL = 16384  # bytes


def before(path: Path) -> Path:
    """Where the part before the present log lies, if there is one."""
    return path.with_name(f"{path.name}.1")


def turn_over(path: Path) -> None:
    """Begin a new log if the one at `path` has grown long and this process prints into it; the earlier part goes.

    No line is lost on the way: a file is renamed with all that is still being printed into it, and then left. Windows
    renames no open file: there, as on a full disk, the log just grows, which is no reason to end a job.
    """
    with suppress(OSError):
        log = path.stat()
        if log.st_size > LONGEST and os.path.samestat(os.fstat(2), log):
            os.replace(path, before(path))
            with path.open("ab") as new:
                for standard in (1, 2):
                    os.dup2(new.fileno(), standard)


def tail(path: Path, lines: int) -> str:
    """The last lines that were printed; empty if there are none."""
    text = b"".join(_end_of(part) for part in (before(path), path))
    return "\n".join(text[-_TAIL:].decode("utf-8", errors="replace").splitlines()[-lines:])


def _end_of(path: Path) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read()
