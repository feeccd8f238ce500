"""A process of our own that the window waits for without standing still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

from MedSeqFTLib.scene.panels.panel import guarded, on

Done = Callable[["int | None", str], None]


class Child:
    """Runs one program at a time, and tells its exit code (None: it could not be run, or took too long) and output."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._process: Any = None
        self._done: Done | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        on(self._timer.timeout, self.stop)

    @property
    def is_active(self) -> bool:
        """True until the program has ended."""
        return self._done is not None

    def run(self, program: str, arguments: list[str], seconds: float, done: Done, environment: Any = None) -> None:
        """Start a program; `done` is called once, when it has ended or `seconds` are over.

        Args:
            environment: a QProcessEnvironment; None is Slicer's own.
        """
        self._done = done
        self._process = qt.QProcess()
        self._process.setProcessChannelMode(qt.QProcess.MergedChannels)
        if environment is not None:
            self._process.setProcessEnvironment(environment)
        on(self._process.finished, self._finished)
        on(self._process.errorOccurred, lambda: self._tell(None))
        self._timer.start(round(1000 * seconds))
        self._process.start(program, arguments)

    def stop(self) -> None:
        """Kill it, if it runs; `done` is told."""
        if self._done is not None:
            self._process.kill()
            self._tell(None)

    def forget(self) -> None:
        """Kill it, if it runs, and tell nobody: the window is going."""
        self._done = None
        self._timer.stop()
        if self._process is not None:
            self._process.kill()
            self._process.waitForFinished(1000)  # milliseconds; a killed process ends at once

    def _finished(self) -> None:
        ended_well = self._process.exitStatus() == qt.QProcess.NormalExit
        self._tell(self._process.exitCode() if ended_well else None)

    def _tell(self, code: int | None) -> None:
        done, self._done = self._done, None
        self._timer.stop()
        if done is not None:
            text = _text(self._process.readAllStandardOutput())
            guarded(lambda: done(code, text))


def _text(array: Any) -> str:
    """Of a QByteArray."""
    data = array.data()
    return data if isinstance(data, str) else bytes(data).decode("utf-8", "replace")
