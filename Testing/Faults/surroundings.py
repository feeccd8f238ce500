"""What surrounds a workspace: a folder that cannot be written, a clock that is set back, a second process."""

from __future__ import annotations

import errno
import time
from datetime import datetime, timedelta
from pathlib import Path

from Faults import checks, seccomp
from Faults.acts import ACTS, opened
from Faults.bench import Kind
from Faults.calls import Call
from Faults.checks import Lost
from Faults.children import Ended
from MedSeqFTLib.workspace import audit

_ACTS = tuple(name for name in ACTS if name != "make a workspace")


class ReadOnly(Kind):
    name = "read-only folder"
    what = (
        "every call that changes something in the workspace fails with EROFS (a disk mounted read-only) or EACCES (no "
        "right to write), for each act; reading still works"
    )
    trials = 2 * len(_ACTS)

    @property
    def unavailable(self) -> str:
        return seccomp.unavailable()

    def run(self, seed: int) -> str:
        name, error = _ACTS[seed // 2], (errno.EROFS, errno.EACCES)[seed % 2]
        with self.bench.fresh() as folder:
            before = checks.note(folder)

            def refuse(call: Call) -> int:
                return error if call.path.is_relative_to(folder) and not call.is_flush else 0

            ended = self.bench.server.child("Faults.acts:perform", name, folder, watched=True).watch(refuse)
            if ended.how == "done":
                raise Lost(f"{name} said that it was done, and could write nothing")
            how = checks.survived(folder, before, name, ended, self.bench.server)
        return f"{name}, {errno.errorcode[error]}: {how} {ended.text}"


class ClockSetBack(Kind):
    name = "clock set back"
    what = (
        "the clock that the program sees is set back by a day, a year, or to the same second again, then each act is "
        "done: nothing is overwritten, the audit log keeps its order, names of jobs stay apart"
    )
    _back = (86_400.0, 365 * 86_400.0, 0.0)
    trials = 3 * len(_ACTS)

    def run(self, seed: int) -> str:
        name, seconds = _ACTS[seed // 3], self._back[seed % 3]
        with self.bench.fresh() as folder:
            before = checks.note(folder)
            ended = self.bench.server.run("Faults.surroundings:with_clock_back", name, folder, seconds)
            if ended.how != "done":
                raise Lost(f"{name} failed with the clock set back: {ended.text}")
            checks.survived(folder, before, name, ended, self.bench.server)
            numbers = [entry.number for entry, _ in audit.entries(opened(folder))]
            if numbers != list(range(1, len(numbers) + 1)):
                raise Lost(f"the audit log has lost its order: {numbers}")
        return f"{name}, {seconds:.0f} s back"


def with_clock_back(name: str, folder: str, seconds: str) -> None:
    """Do an act in a child whose clocks are set back; 0: to the second in which the template's job was made."""
    back = float(seconds) or _since_the_job(Path(folder))
    real_time, real_datetime = time.time, datetime

    class Back(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return real_datetime.now(tz) - timedelta(seconds=back)  # type: ignore[arg-type]

    time.time = lambda: real_time() - back
    from MedSeqFTLib.jobs import control, events
    from MedSeqFTLib.workspace import schema

    schema.datetime = events.datetime = Back
    assert control.now() < real_datetime.now().astimezone()
    ACTS[name].do(Path(folder))


def _since_the_job(folder: Path) -> float:
    from MedSeqFTLib.jobs.control import list_jobs

    created = list_jobs(opened(folder))[0].job.created
    return (datetime.now(created.tzinfo) - created).total_seconds()


class TwoProcesses(Kind):
    name = "two processes"
    what = (
        "two processes do an act on one workspace at the same moment: the same act, where one is done and the other is "
        "refused in words, or different ones, where both are done and neither undoes the other"
    )
    _pairs = (
        ("accept", "accept"), ("promote", "promote"), ("publish", "publish"), ("add a task", "add a task"),
        ("roll back", "promote"), ("accept", "promote"), ("accept", "revise"), ("revise", "publish"),
        ("segment", "accept"), ("promote", "segment"), ("accept", "add a task"), ("store an edit", "publish"),
        ("export the workspace", "accept"), ("adapt", "accept"), ("adapt", "promote"), ("revise", "revise"),
    )  # fmt: skip
    trials = 3 * len(_pairs)

    def run(self, seed: int) -> str:
        first, second = self._pairs[seed // 3]
        with self.bench.fresh() as folder:
            before = checks.note(folder)
            children = [self.bench.server.child("Faults.acts:perform", name, folder) for name in (first, second)]
            ended = [child.wait() for child in children]
            self._judge(folder, before, (first, second), [end for end in ended if end is not None])
        return f"{first} and {second}: " + " and ".join(end.how for end in ended if end)

    def _judge(self, folder: Path, before: checks.Before, names: tuple[str, str], ended: list[Ended]) -> None:
        for end in ended:
            checks.no_bug(end)
        done = [name for name, end in zip(names, ended, strict=True) if end.how == "done"]
        if not done:
            raise Lost(f"neither was done: {ended[0].text} {ended[1].text}")
        changes = (*ACTS[names[0]].changes, *ACTS[names[1]].changes)
        checks.nothing_lost(folder, before, changes)
        pointers = [name for name in done if name in ("promote", "roll back", "adapt")]
        for name in set(done) - set(pointers if len(pointers) > 1 else ()):
            if not ACTS[name].done(folder):
                raise Lost(f"{name} said that it was done, and was undone by the other")
        history = len(opened(folder).pointers().history)
        if history < len(
            [end for name, end in zip(names, ended, strict=True) if end.how == "done" and name in pointers]
        ):
            raise Lost("a promotion is missing in the history")
        checks.no_leftovers(folder)
