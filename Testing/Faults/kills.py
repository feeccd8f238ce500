"""SIGKILL at random moments: of whoever does an act, of a real worker process, and of the program that started one."""

from __future__ import annotations

import random
import time
from functools import cached_property
from pathlib import Path

from Faults import acts, checks, samples
from Faults.acts import ACTS, opened
from Faults.bench import Kind
from Faults.checks import Lost
from Faults.children import Ended
from MedSeqFTLib.jobs import control, system
from MedSeqFTLib.jobs.job import ACTIVE, JobFolder

_PATIENCE = 120.0  # seconds that a worker may take to end on a busy machine
_BEGINS = 15.0  # seconds within which a worker that was launched says that it is there
_STARTING = {"adapt": 0.4, "store an edit": 0.08}  # seconds that a program is busy with starting a job


class Kill(Kind):
    name = "kill"
    what = (
        "SIGKILL at a random moment of accepting, correcting, adapting, promoting, rolling back, storing an edit, "
        "segmenting, exporting, and of exporting and importing a workspace; in a forked process that had imported the "
        "library"
    )
    trials = 150
    _order = tuple(
        "accept, adapt, promote, export the workspace, revise, adapt, roll back, import a workspace, "
        "store an edit, adapt, export, segment".split(", ")
    )

    @cached_property
    def _seconds(self) -> dict[str, float]:
        """How long each act takes when nothing happens, as far as it was measured."""
        return {}

    def _measured(self, name: str) -> float:
        if name not in self._seconds:
            with self.bench.fresh() as folder:
                begun = time.monotonic()
                assert self.bench.server.run("Faults.acts:perform", name, folder).how == "done"
                self._seconds[name] = time.monotonic() - begun
        return self._seconds[name]

    def run(self, seed: int) -> str:
        name, share = self._order[seed % len(self._order)], random.Random(seed).random()
        seconds = self._measured(name)
        for attempt in range(4):  # an act that was quicker than the kill says nothing
            with self.bench.fresh() as folder:
                before = checks.note(folder)
                delay = share * seconds / 2**attempt
                ended = self._killed(name, folder, delay)
                how = checks.survived(folder, before, name, ended, self.bench.server)
                if how == "killed":
                    break
        return f"{name}, {how} after {delay:.3f} s"

    def _killed(self, name: str, folder: Path, delay: float) -> Ended:
        child = self.bench.server.child("Faults.acts:perform", name, folder)
        ended = child.wait(delay)
        if ended is None:
            child.kill()
            ended = child.wait()
        assert ended is not None
        return ended


class KillWorker(Kind):
    name = "kill a worker"
    what = (
        "SIGKILL at a random moment of a real worker process, started as the program does; then the job is resumed by "
        "another one. Storing an edit, every fourth time an adaptation"
    )
    trials = 20
    few = 1

    def run(self, seed: int) -> str:
        name = "adapt" if seed % 4 == 3 else "store an edit"
        with self.bench.fresh() as folder:
            before = checks.note(folder)
            job = _started(folder, name)
            events = 1 + random.Random(seed).randrange(14 if name == "adapt" else 3)
            _wait(lambda: len(job.events()[0]) >= events or job.state() not in ACTIVE)
            time.sleep(random.Random(seed).random() * 0.05)
            _kill(job)
            state = job.state()
            checks.intact(folder, before, ACTS[name])
            if state != "finished":
                control.resume(opened(folder), job.id)
            _finish(folder, before, job, name, self)
        return f"{name}, killed when it was {state}"


class KillParent(Kind):
    name = "kill the program"
    what = (
        "SIGKILL at a random moment of the program that starts a job (an edit is accepted; every sixth time an "
        "adaptation); its real worker lives on, or the job is resumed. What was acknowledged is stored in the end"
    )
    trials = 30
    few = 1

    def run(self, seed: int) -> str:
        name, choose = "adapt" if seed % 6 == 5 else "store an edit", random.Random(seed)
        with self.bench.fresh() as folder:
            before = checks.note(folder)
            child = self.bench.server.child("Faults.kills:start", name, folder)
            ended = child.wait(choose.random() * _STARTING[name])
            if ended is None:
                child.kill()
                ended = child.wait()
            assert ended is not None
            checks.no_bug(ended)
            job = _job_of(folder, name)
            if job is None and ended.how == "done":
                raise Lost(f"{name} was acknowledged, and there is no job")
            if job is not None:
                self._outlive(folder, job)
                _finish(folder, before, job, name, self)
            checks.intact(folder, before, ACTS[name])
            checks.can_be_done_again(folder, before, ACTS[name], self.bench.server)
        return f"{name}, program {ended.how}, job {'written' if job else 'not written'}"

    def _outlive(self, folder: Path, job: JobFolder) -> None:
        """Wait for the worker that the program had launched; if it had not come to that, resume the job."""
        begun = time.monotonic() + _BEGINS
        while not job.process_path.exists() and time.monotonic() < begun and _is_launched(job):
            time.sleep(0.05)
        if not job.process_path.exists():
            control.resume(opened(folder), job.id)


def start(name: str, folder: str) -> None:
    """What the program does, in a child: start a real worker and go on when it is safe to."""
    base = Path(folder)
    if name == "adapt":
        from MedSeqFTLib.jobs.starting import start_adaptation

        start_adaptation(opened(base), samples.TASK, "quick", samples.SMALLEST)
        return
    acts.accept_by_job(base)


def _started(folder: Path, name: str) -> JobFolder:
    """A job with a real worker."""
    start(name, str(folder))
    job = _job_of(folder, name)
    assert job is not None
    return job


def _job_of(folder: Path, name: str) -> JobFolder | None:
    """The newest job of an act; None if it was not written."""
    kind = "adapt" if name == "adapt" else "accept"
    known = "adapt" if name == "adapt" else None  # the template holds one adaptation
    jobs = [job for job in control.list_jobs(opened(folder)) if job.job.kind == kind]
    return jobs[-1] if len(jobs) > (known is not None) else None


def _is_launched(job: JobFolder) -> bool:
    import psutil

    wanted = str(job.path)
    return any(wanted in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))


def _kill(job: JobFolder) -> None:
    process = job.process()
    if process is not None:
        system.kill_tree(process.pid, process.create_time)
    _wait(lambda: not job.worker_lives())


def _finish(folder: Path, before: checks.Before, job: JobFolder, name: str, kind: Kind) -> None:
    """The job comes to its end, and all is there."""
    _wait(lambda: job.state() not in ACTIVE and not job.worker_lives())
    if job.state() == "interrupted":
        control.resume(opened(folder), job.id)
        _wait(lambda: job.state() not in ACTIVE and not job.worker_lives())
    if job.state() != "finished":
        raise Lost(f"the job is {job.state()} in the end: {job.progress().text}")
    if not ACTS[name].done(folder):
        raise Lost(f"the job is finished, and {name} does not show")
    checks.intact(folder, before, ACTS[name])
    checks.can_be_done_again(folder, before, ACTS[name], kind.bench.server)


def _wait(condition: object) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise Lost(f"nothing happened within {_PATIENCE:.0f} seconds")
        time.sleep(0.01)
