"""Which GPU there is and how much of its memory is free, without torch and without waiting."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from typing import NamedTuple

import slicer

_PROGRAM = "nvidia-smi"
_QUESTION = ("--query-gpu=name,memory.free,memory.total", "--format=csv,noheader,nounits")
_PATIENCE = 20.0  # seconds; a driver that sleeps takes some to wake up
_MIB = 1 << 20


class Gpu(NamedTuple):
    """Bytes; None where it shares the computer's memory."""

    name: str
    free: int | None = None
    total: int | None = None


class GpuProbe:
    """Asks the driver's own program, which answers when it likes. Ask `answered` from a timer."""

    def __init__(self) -> None:
        """Start to ask."""
        self.gpu: Gpu | None = None
        self._child: subprocess.Popen[str] | None = None
        self._give_up_at = time.monotonic() + _PATIENCE
        if platform.system() == "Darwin" and platform.machine() == "arm64":
            self.gpu = Gpu("Apple GPU")
        elif program := shutil.which(_PROGRAM):
            self._child = _started([program, *_QUESTION])

    @property
    def answered(self) -> bool:
        """True once `gpu` is known: None then says that there is none."""
        if self._child is None:
            return True
        if self._child.poll() is None and time.monotonic() < self._give_up_at:
            return False
        self.gpu = _read(self._child)
        self._child = None
        return True

    def close(self) -> None:
        """Nobody wants to know any longer."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def _started(command: list[str]) -> subprocess.Popen[str] | None:
    """A foreign program must not load Slicer's libraries: it gets the environment that Slicer was started in."""
    in_slicer = hasattr(slicer.app, "startupEnvironment")
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=slicer.util.startupEnvironment() if in_slicer else None,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError:
        return None


def _read(child: subprocess.Popen[str]) -> Gpu | None:
    """The first GPU of the answer, a line "name, free, total" in MiB: the one that a job takes."""
    if child.poll() is None:
        child.kill()
    answer, _ = child.communicate()
    name, *sizes = [part.strip() for part in answer.partition("\n")[0].rsplit(",", 2)]
    if child.returncode != 0 or len(sizes) != 2:
        return None
    free, total = (int(size) * _MIB if size.isdigit() else None for size in sizes)  # "[N/A]" of a part of a GPU
    return Gpu(name, free, total)
