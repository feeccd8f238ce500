"""Further processes that share the work of a command, and how both sides hear of each other's end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from MedSeqFTLib.errors import JobError
from MedSeqFTLib.jobs import launching, system
from MedSeqFTLib.workspace.files import storage_errors

_GRACE = 10.0  # seconds to end after a friendly word
_POLL = 0.05  # seconds
_LOOK = 1.0  # seconds between two looks for whoever started this process


@dataclass(frozen=True)
class _Helper:
    number: int
    process: subprocess.Popen[bytes]
    log: Path
    begin: int  # where in the log this run begins

    def lines(self) -> list[str]:
        """What it has told in this run."""
        text = self.log.read_bytes()[self.begin :].decode("utf-8", "replace")
        return [line for line in text.splitlines() if line.strip()]

    def refuse_failure(self) -> None:
        code = self.process.poll()
        if not code:
            return
        lines = self.lines()
        errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
        words = (errors or lines or ["it told nothing"])[-1]
        raise JobError(f"Process {self.number} ended with exit code {code}: {words} (all that it told: {self.log})")


class Helpers:
    """Runs `medseqft ARGUMENTS` in `count` further processes; leaving the context ends those that still run.

    What they tell goes to FOLDER/processes/NUMBER.log.
    """

    def __init__(self, count: int, arguments: Sequence[str], folder: Path) -> None:
        self._count, self._arguments, self._folder = count, arguments, folder / "processes"
        self._helpers: list[_Helper] = []

    def __enter__(self) -> Helpers:
        try:
            for number in range(2, self._count + 2):
                self._helpers.append(self._started(number))
        except BaseException:  # Ctrl-C, too: __exit__ is not called when this fails
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def check(self) -> None:
        """Raise JobError, with its words, if one has failed."""
        for helper in self._helpers:
            helper.refuse_failure()

    def wait(self) -> None:
        """Until all have ended by themselves. Raises JobError if one fails."""
        while any(helper.process.poll() is None for helper in self._helpers):
            self.check()
            time.sleep(_POLL)
        self.check()

    def warnings(self) -> Iterator[str]:
        """What they have warned of."""
        for helper in self._helpers:
            yield from (line.removeprefix("Warning: ") for line in helper.lines() if line.startswith("Warning: "))

    def _started(self, number: int) -> _Helper:
        path = self._folder / f"{number}.log"
        with storage_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as log:
                return _Helper(number, self._launched(log.fileno()), path, log.tell())

    def _launched(self, log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "MedSeqFTLib.commands", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**launching.worker_environment(os.environ), "FORCE_COLOR": ""},  # a log, whatever the terminal can
            cwd=launching.library_root(),  # Python looks for modules here: not in a folder of data
        )

    def _end(self) -> None:
        running = [helper.process for helper in self._helpers if helper.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _GRACE
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Leader:
    """The process that a helper was started by."""

    def __init__(self, pid: int) -> None:
        self._pid, self._created = pid, system.create_time(pid)
        self._next_look = 0.0

    def check(self) -> None:
        """Raise KeyboardInterrupt if it is gone: killed, it could not end its helpers."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK
        if not system.process_is(self._pid, self._created):
            raise KeyboardInterrupt
