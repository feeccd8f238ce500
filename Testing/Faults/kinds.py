"""All kinds of fault, in the order of the table."""

from __future__ import annotations

from Faults.bench import Kind
from Faults.damage import Damage
from Faults.full_disk import DiskFull, Quota
from Faults.kills import Kill, KillParent, KillWorker
from Faults.memory import GpuError, OutOfMemory
from Faults.power_cut import PowerCut
from Faults.surroundings import ClockSetBack, ReadOnly, TwoProcesses

_INTERRUPTED: tuple[type[Kind], ...] = (Kill, KillWorker, KillParent, PowerCut)
_REFUSED: tuple[type[Kind], ...] = (DiskFull, Quota, ReadOnly)
_SURROUNDED: tuple[type[Kind], ...] = (ClockSetBack, TwoProcesses, Damage, OutOfMemory, GpuError)
KINDS = _INTERRUPTED + _REFUSED + _SURROUNDED
