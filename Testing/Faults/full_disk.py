"""A disk without room, or a quota that is used up, at every single call that writes."""

from __future__ import annotations

import errno
from functools import cached_property
from pathlib import Path

from Faults import checks, seccomp
from Faults.acts import ACTS
from Faults.bench import Kind
from Faults.calls import Call
from Faults.children import Ended

_SAMPLED = {"adapt": 12, "import a workspace": 30, "export the workspace": 30}  # hundreds of calls: evenly spread


class FailFrom:
    """Calls that need room fail from the n-th on; or that one alone."""

    def __init__(self, folder: Path, number: int, error: int, once: bool) -> None:
        self.folder, self.number, self.error, self.once = folder, number, error, once
        self.seen = 0

    def __call__(self, call: Call) -> int:
        if not (call.needs_room and call.path.is_relative_to(self.folder)):
            return 0
        self.seen += 1
        hit = self.seen == self.number if self.once else self.seen >= self.number
        return self.error if hit else 0


class AtEveryCall(Kind):
    """Each act is done as often as it makes calls: the first time the first call fails, then the second, ..."""

    error: int
    once: bool
    acts: tuple[str, ...] = tuple(ACTS)

    @property
    def unavailable(self) -> str:
        return seccomp.unavailable()

    @cached_property
    def _plan(self) -> list[tuple[str, int]]:
        """Which act, and which of its calls fails."""
        plan: list[tuple[str, int]] = []
        for name in self.acts:
            calls = self._calls_of(name)
            wanted = min(calls, _SAMPLED.get(name, calls))
            plan += [(name, 1 + i * calls // wanted) for i in range(wanted)]
        return plan

    def _calls_of(self, name: str) -> int:
        with self.bench.fresh() as folder:
            never = FailFrom(folder, 0, 0, once=True)
            ended = self._do(name, folder, never)
            assert ended.how == "done", f"{name} without a fault: {ended}"
            return never.seen

    @property
    def trials(self) -> int:
        return len(self._plan)

    def run(self, seed: int) -> str:
        name, number = self._plan[seed]
        with self.bench.fresh() as folder:
            before = checks.note(folder)
            ended = self._do(name, folder, FailFrom(folder, number, self.error, self.once))
            how = checks.survived(folder, before, name, ended, self.bench.server)
        return f"{name}, call {number}: {how} {ended.text}".rstrip()

    def _do(self, name: str, folder: Path, decide: FailFrom) -> Ended:
        return self.bench.server.child("Faults.acts:perform", name, folder, watched=True).watch(decide)


class DiskFull(AtEveryCall):
    name = "disk full"
    what = "from the n-th call that writes on, every one fails with ENOSPC; n = 1, 2, 3, ... for each act"
    error, once = errno.ENOSPC, False


class Quota(AtEveryCall):
    name = "quota"
    what = "the n-th call that writes fails with EDQUOT, the later ones succeed; n = 1, 2, 3, ... for each act"
    error, once = getattr(errno, "EDQUOT", errno.ENOSPC), True
