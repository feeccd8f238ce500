"""Which GPUs there are and how much of their memory is free, without torch and without waiting."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import NamedTuple

import slicer

from MedSeqFTLib.scene.panels.child import Child

_PROGRAM = "nvidia-smi"
_QUERY = ["--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits"]
_PATIENCE = 20.0  # seconds; a driver that sleeps takes some to wake up
_MIB = 1 << 20


class Gpu(NamedTuple):
    """Bytes; None where it shares the computer's memory, and in a part of a GPU."""

    name: str
    total: int | None = None
    free: int | None = None
    driver: str = ""


class GpuProbe:
    """Asks the driver's own program, which answers when it likes."""

    def __init__(self, told: Callable[[], None]) -> None:
        """Nothing is asked yet. `told` is called after each answer."""
        self.gpus: list[Gpu] = []
        self.answered = False
        self._told, self._child = told, Child()

    def ask(self) -> None:
        """Ask, unless it is being asked already. A foreign program must not load Slicer's libraries."""
        if not self._child.is_active:
            self.answered = False
            self._child.run(_PROGRAM, _QUERY, _PATIENCE, self._take, slicer.app.startupEnvironment())

    def close(self) -> None:
        """Nobody wants to know any longer."""
        self._child.forget()

    def _take(self, code: int | None, answer: str) -> None:
        self.gpus, self.answered = gpus_of(code, answer), True
        self._told()


def gpus_of(code: int | None, answer: str, system: str = "", machine: str = "") -> list[Gpu]:
    """What the program said, the GPU that a job takes first. Only a Mac of Apple's own make needs no answer."""
    lines = [line.strip() for line in answer.splitlines() if line.count(",") >= 3] if code == 0 else []
    if not lines and (system or platform.system(), machine or platform.machine()) == ("Darwin", "arm64"):
        return [Gpu("Apple GPU")]
    return [_gpu(*(part.strip() for part in line.rsplit(",", 3))) for line in lines]


def _gpu(name: str, total: str, free: str, driver: str) -> Gpu:
    return Gpu(name, _bytes(total), _bytes(free), driver)


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * _MIB if mebibytes.isdecimal() else None  # or else "[N/A]"
