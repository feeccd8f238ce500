"""All kinds of fault, in the order of the table."""

from __future__ import annotations

from Faults.bench import Kind
from Faults.full_disk import DiskFull, Quota
from Faults.kills import Kill, KillParent, KillWorker
from Faults.power_cut import PowerCut

KINDS: tuple[type[Kind], ...] = (Kill, KillWorker, KillParent, DiskFull, Quota, PowerCut)
