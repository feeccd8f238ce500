"""Jobs with real worker processes, which count instead of training."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import get_args

import psutil
import pytest
from pydantic import ValidationError

from MedSeqFTLib.errors import InputError, JobError, WorkspaceError
from MedSeqFTLib.jobs import control, launching, log, system, worker
from MedSeqFTLib.jobs.events import Event, EventWriter, moment
from MedSeqFTLib.jobs.job import ACTIVE, Job, JobFolder, JobKind, WorkerProcess, job_folder
from MedSeqFTLib.workspace.files import write_json
from MedSeqFTLib.workspace.workspace import Workspace

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parents[1]


@pytest.fixture(autouse=True)
def _runners_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace.create(tmp_path / "my wörkspace")
    yield workspace
    for folder in control.list_jobs(workspace):
        process = folder.process()
        if process is not None and process.is_here:
            system.kill_tree(process.pid, process.create_time)


def start(workspace, runner="count", steps=3, pause=0.01, name=None):
    job = control.new_job(workspace, "adapt", "kidney", {"steps": steps, "pause": pause})
    if name:
        job = job.model_copy(update={"id": name})
    return control.start_job(workspace, job, runner=f"job_runners:{runner}")


def wait_until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def finish(folder):
    events = list(control.watch(folder, interval=0.02))
    wait_until(lambda: not folder.worker_lives())
    return events


def kinds(folder):
    return [event.kind for event in folder.events()[0]]


def kill_worker(folder):
    """As a power loss or the system's memory killer would: without a word."""
    process = folder.process()
    psutil.Process(process.pid).kill()
    wait_until(lambda: not folder.worker_lives())


def step_of(folder):
    return folder.progress().step or 0


# a job's life


def test_a_job_runs_in_the_background_and_tells_its_progress(workspace):
    folder = start(workspace, steps=5, pause=0.05)
    assert folder.state() == "running"
    events = finish(folder)
    assert folder.state() == "finished"
    assert events[0].kind == "started"
    assert (events[-1].kind, events[-1].version) == ("finished", "M7")
    progress = folder.progress()
    assert (progress.stage, progress.step, progress.total, progress.device) == ("count", 5, 5, "cpu")
    assert progress.loss == pytest.approx(0.7)
    pid = folder.process().pid
    assert pid != os.getpid()
    wait_until(lambda: not psutil.pid_exists(pid))  # this program took notice of its end: no zombie


def test_a_finished_job_makes_room_at_once_and_the_oldest_is_listed_first(workspace):
    folders = []
    for _ in range(2):
        folders.append(start(workspace, steps=1))
        list(control.watch(folders[-1], interval=0.001))
        assert folders[-1].state() == "finished"
    assert [folder.id for folder in control.list_jobs(workspace)] == [folder.id for folder in folders]
    assert control.job(workspace, folders[0].id).job == folders[0].job
    wait_until(lambda: control.running_job(workspace) is None)


def test_the_worker_outlives_its_parent(workspace):
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from MedSeqFTLib.jobs import control\n"
        "from MedSeqFTLib.workspace.workspace import Workspace\n"
        "workspace = Workspace.open(sys.argv[1])\n"
        "job = control.new_job(workspace, 'adapt', 'kidney', {'steps': 20, 'pause': 0.05})\n"
        "print(control.start_job(workspace, job, runner='job_runners:count').id, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(workspace.folder), str(ROOT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        folder = control.job(workspace, parent.stdout.readline().strip())
        parent.kill()
    step = step_of(folder)
    assert folder.state() == "running"
    finish(folder)
    assert folder.state() == "finished"
    assert step < step_of(folder) == 20


def test_the_worker_survives_the_hang_up_of_its_terminal(workspace):
    if not hasattr(os, "getsid"):
        pytest.skip("sessions exist on POSIX only")
    folder = start(workspace, steps=100, pause=0.05)
    pid = folder.process().pid
    assert os.getsid(pid) == pid
    assert os.getpgid(pid) != os.getpgid(0)


def test_neither_side_imports_heavy_libraries(workspace):
    folder = start(workspace, "imports")
    finish(folder)
    assert [event.text for event in folder.events()[0] if event.kind == "message"] == ["none"]
    script = "import sys, MedSeqFTLib.jobs.control; print(sorted({'torch', 'SimpleITK', 'monai'} & set(sys.modules)))"
    arguments = [sys.executable, "-c", script]
    assert subprocess.check_output(arguments, text=True, cwd=ROOT).strip() == "[]"


def test_the_worker_minds_its_threads_and_lets_others_go_first(workspace, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    job = control.new_job(workspace, "pretrain", settings={"threads": 3})
    folder = control.start_job(workspace, job, runner="job_runners:manners")
    finish(folder)
    priority = system.background_priority(int(psutil.Process().nice()))
    assert folder.events()[0][1].text == f"3 threads, priority {priority}"


# interrupted and resumed


def test_a_killed_worker_leaves_an_interrupted_job_which_goes_on_from_its_checkpoint(workspace):
    folder = start(workspace, steps=30, pause=0.05)
    wait_until(lambda: step_of(folder) >= 3)
    kill_worker(folder)
    assert folder.state() == "interrupted"
    reached = int((folder.checkpoint_folder / "step.txt").read_text(encoding="utf-8"))
    control.resume(workspace, folder.id, runner="job_runners:count")
    finish(folder)
    assert folder.state() == "finished"
    stages = [event for event in folder.events()[0] if event.kind == "stage"]
    assert stages[1].step >= reached >= 3
    assert kinds(folder).count("started") == 2
    assert folder.progress().step == 30


def test_a_line_torn_by_the_kill_is_repaired_on_resuming(workspace):
    folder = start(workspace, steps=100, pause=0.05)
    wait_until(lambda: step_of(folder) >= 1)
    kill_worker(folder)
    with folder.events_path.open("ab") as file:
        file.write(b'{"time":"2030-01-01T00')
    assert folder.state() == "interrupted"
    control.resume(workspace, folder.id, runner="job_runners:count")
    control.cancel(folder)
    assert "warning" not in kinds(folder)
    assert kinds(folder)[-1] == "cancelled"


def test_a_process_that_got_the_worker_s_number_is_not_the_worker(workspace):
    folder = start(workspace, steps=1000)
    kill_worker(folder)
    own = WorkerProcess.of(os.getpid())
    write_json(folder.process_path, own.model_copy(update={"create_time": own.create_time - 100}))
    assert folder.state() == "interrupted"
    write_json(folder.process_path, own)
    assert folder.state() == "running"
    folder.process_path.unlink()


@pytest.mark.parametrize("runner", ["count", "bug"])
def test_cancelled_and_failed_jobs_can_be_resumed(workspace, runner):
    folder = start(workspace, runner, steps=1000)
    if runner == "count":
        control.cancel(folder)
    else:
        finish(folder)
    before = folder.state()
    control.resume(workspace, folder.id, runner="job_runners:imports")
    finish(folder)
    assert (before, folder.state()) == ({"count": "cancelled", "bug": "failed"}[runner], "finished")
    assert kinds(folder).count("started") == 2


def test_what_cannot_be_resumed_or_cancelled(workspace):
    folder = start(workspace, steps=1000)
    with pytest.raises(JobError, match="is running; only interrupted"):
        control.resume(workspace, folder.id)
    control.cancel(folder)
    done = start(workspace, "imports", name="done")
    finish(done)
    with pytest.raises(JobError, match="is finished; only interrupted"):
        control.resume(workspace, "done")
    with pytest.raises(JobError, match="is finished; only a running job"):
        control.cancel(done)
    assert not done.cancel_path.exists()
    with pytest.raises(InputError, match="no job 'nonsense'.*done"):
        control.resume(workspace, "nonsense")


def test_a_job_on_another_machine_is_judged_by_its_lock(workspace):
    folder = start(workspace, "imports")
    finish(folder)
    launching.append_event(folder, Event(kind="started"))
    write_json(folder.process_path, folder.process().model_copy(update={"host": "elsewhere"}))
    assert folder.state() == "interrupted"
    with workspace.adapting_lock():
        assert folder.state() == "running"
        with pytest.raises(JobError, match="runs on elsewhere"):
            control.cancel(folder, grace_seconds=0.1)
        assert folder.state() == "cancelling"


# cancelled


def test_a_job_stops_when_it_is_asked_to(workspace):
    folder = start(workspace, steps=10_000)
    wait_until(lambda: step_of(folder) >= 2)
    control.request_cancel(folder)
    assert folder.state() in ("cancelling", "cancelled")
    assert control.cancel(folder) == "cancelled" if folder.state() == "cancelling" else True
    finish(folder)
    assert folder.state() == "cancelled"
    assert kinds(folder).count("cancelled") == 1


def test_a_deaf_job_is_killed_with_its_children(workspace):
    folder = start(workspace, "deaf")
    wait_until(lambda: "message" in kinds(folder))
    child = int(folder.progress().text.split()[1])
    created = system.create_time(child)
    assert control.cancel(folder, grace_seconds=0.3) == "cancelled"
    assert kinds(folder)[-1] == "cancelled"
    assert not folder.worker_lives()
    assert not system.process_is(child, created)
    assert start(workspace).job.kind == "adapt"  # the lock is free again


# failed


def test_a_user_s_mistake_is_told_in_its_own_line(workspace):
    folder = start(workspace, "user_mistake")
    event = finish(folder)[-1]
    assert (folder.state(), event.text) == ("failed", "Task kidney has no training cases; accept some first.")


def test_a_bug_is_told_by_its_type_and_where_to_look(workspace):
    folder = start(workspace, "bug")
    event = finish(folder)[-1]
    assert (folder.state(), event.text) == ("failed", "ZeroDivisionError: division by zero; see worker.log")
    assert 'raise ZeroDivisionError("division' in folder.log_path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("runner", "told"),
    [
        ("no_memory", "Out of memory (no memory is left). Close other programs"),
        ("broken_card", "The graphics card failed (CUDA error: dev"),
    ],
)
def test_used_up_memory_and_a_broken_card_are_told_with_what_to_do(workspace, runner, told):
    event = finish(start(workspace, runner))[-1]
    assert event.text.startswith(told)
    assert "esume the job: it goes on from its last checkpoint" in event.text


def test_a_runner_that_cannot_be_imported_fails_the_job(workspace):
    folder = start(workspace, "no_such_function")
    event = finish(folder)[-1]
    assert (folder.state(), event.kind) == ("failed", "failed")
    assert event.text.startswith("AttributeError: ")
    assert event.text.endswith("; see worker.log")


@pytest.mark.parametrize("name", ["os.system('true')", "job_runners", "job_runners:", ":count", "../job_runners:count"])
def test_only_import_names_are_runners(name):
    with pytest.raises(ValueError, match="package.module:function"):
        worker.runner_for("adapt", name)


def test_every_kind_of_job_has_a_runner():
    assert set(worker._RUNNERS) == set(get_args(JobKind))
    with pytest.raises(ValueError, match="no runner for job kind 'benchmark'"):
        worker.runner_for("benchmark")
    assert worker.runner_for("adapt", "MedSeqFTLib.jobs.worker:main") is worker.main


# not started


def test_an_interpreter_that_is_not_there(workspace):
    job = control.new_job(workspace, "adapt", "kidney")
    with pytest.raises(JobError, match="cannot run no-such-python"):
        control.start_job(workspace, job, python="no-such-python")
    assert control.job(workspace, job.id).state() == "failed"


def test_a_worker_that_dies_at_once_shows_its_log(workspace):
    job = control.new_job(workspace, "adapt", "kidney")
    (workspace.folder / "workspace.json").write_text("{}", encoding="utf-8")
    with pytest.raises(JobError, match=r"exit code 2\.\n.*workspace\.json is damaged"):
        control.start_job(workspace, job)
    assert job_folder(workspace, job.id).state() == "failed"


def test_a_worker_that_does_not_begin_in_time_is_killed(workspace):
    job = control.new_job(workspace, "adapt", "kidney")
    with pytest.raises(JobError, match="did not begin within 0 seconds"):
        control.start_job(workspace, job, timeout=0.0)
    folder = control.job(workspace, job.id)
    assert folder.state() == "failed"
    assert kinds(folder) == ["failed"]
    control.resume(workspace, job.id, runner="job_runners:imports")
    finish(folder)
    assert folder.state() == "finished"


def test_a_second_job_is_refused_and_leaves_nothing_behind(workspace):
    folder = start(workspace, steps=1000)
    before = sorted((workspace.folder / "jobs").iterdir())
    with pytest.raises(WorkspaceError, match=rf"already running.*adapt kidney.*jobs cancel {folder.id}") as refused:
        start(workspace)
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    assert sorted((workspace.folder / "jobs").iterdir()) == before
    assert control.running_job(workspace).id == folder.id


def test_of_two_starts_at_once_one_wins(workspace):
    jobs = [control.new_job(workspace, "adapt", "kidney", {"steps": 1000, "pause": 0.01}) for _ in range(2)]
    jobs = [job.model_copy(update={"id": f"job-{number}"}) for number, job in enumerate(jobs)]
    started, refused = [], []

    def start_one(job):
        try:
            started.append(control.start_job(workspace, job, runner="job_runners:count"))
        except control.WorkspaceBusy as error:
            refused.append(error)

    threads = [threading.Thread(target=start_one, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(started), len(refused)) == (1, 1)
    assert [folder.id for folder in control.list_jobs(workspace)] == [started[0].id]
    assert started[0].state() == "running"


def test_the_worker_that_comes_second_writes_nothing(workspace):
    first = start(workspace, steps=1000)
    second = job_folder(workspace, "second")
    second.path.mkdir()
    write_json(second.path / "job.json", first.job.model_copy(update={"id": "second"}))
    arguments = [sys.executable, "-m", "MedSeqFTLib.jobs.worker", str(second.path)]
    assert subprocess.run(arguments, cwd=ROOT, check=False).returncode == worker.EXIT_BUSY
    assert [path.name for path in second.path.iterdir()] == ["job.json"]
    assert second.state() == "queued"


# descriptions


def test_adapting_needs_a_task():
    with pytest.raises(ValidationError, match="needs a task"):
        Job(id="a", kind="adapt")
    assert Job(id="a", kind="pretrain").task is None


def test_job_names_cannot_lead_out_of_the_workspace(workspace):
    with pytest.raises(InputError):
        control.job(workspace, "../kidney")
    assert control.new_job(workspace, "pretrain").id.startswith("pretrain-2")


def test_two_jobs_of_one_second_have_two_names(workspace, monkeypatch):
    moment = control.now()
    monkeypatch.setattr(control, "now", lambda: moment)
    names = []
    for _ in range(3):
        job = control.new_job(workspace, "pretrain")
        names.append(job.id)
        job_folder(workspace, job.id).path.mkdir()
    assert names == [names[0], f"{names[0]}-2", f"{names[0]}-3"]


def test_a_damaged_description_is_named(workspace):
    folder = job_folder(workspace, "x")
    folder.path.mkdir()
    (folder.path / "job.json").write_text('{"schema_version": 1, "id": "x"}', encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"job\.json is damaged: field kind"):
        control.list_jobs(workspace)
    shutil.rmtree(folder.path)


def test_the_worker_s_environment_puts_this_library_first():
    environment = launching.worker_environment({"PYTHONPATH": "elsewhere", "HOME": "h"})
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "elsewhere"]
    assert environment["HOME"] == "h"
    assert launching.worker_environment({})["PYTHONPATH"] == str(ROOT)


def test_the_log_s_tail(tmp_path):
    folder = JobFolder(tmp_path)
    assert folder.log_tail() == ""
    folder.log_path.write_text("".join(f"line {number}\n" for number in range(5000)), encoding="utf-8")
    assert folder.log_tail(2) == "line 4998\nline 4999"


@pytest.mark.skipif(sys.platform == "win32", reason="renames no open file: there the log grows")
def test_the_log_of_a_long_job_is_turned_over_and_its_last_lines_are_kept(workspace):
    """Printed are 4 MB. Nothing between the first line that is left and the last one is missing."""
    job = control.new_job(workspace, "adapt", "kidney", {"lines": 10_000})
    folder = control.start_job(workspace, job, runner="job_runners:talk")
    wait_until(lambda: folder.state() == "interrupted", 30)
    parts = [log.before(folder.log_path), folder.log_path]
    assert sum(path.stat().st_size for path in parts) < 2 * log.LONGEST + 1_000_000
    *numbers, child, native = [
        line.split()[1] for path in parts for line in path.read_text().splitlines() if "INFO" not in line
    ]
    assert (child, native) == ("child", "code")
    assert [int(number) for number in numbers] == list(range(int(numbers[0]), 10_001))
    assert len(numbers) * 410 > log.LONGEST
    assert folder.log_tail(3).splitlines()[1:] == ["a child", "native code"]


def test_the_tail_goes_on_in_the_part_before(tmp_path):
    folder = JobFolder(tmp_path)
    log.before(folder.log_path).write_text("one\ntwo\n")
    assert folder.log_tail() == "one\ntwo"  # killed just when it was turned over
    folder.log_path.write_text("three\n")
    assert folder.log_tail(2) == "two\nthree"


def test_a_log_that_is_not_our_own_is_left_alone(tmp_path):
    path = tmp_path / "worker.log"
    path.write_bytes(b"x" * (log.LONGEST + 1))
    log.turn_over(path)
    assert path.stat().st_size == log.LONGEST + 1 and not log.before(path).exists()


def test_a_job_that_ends_while_its_state_is_asked_is_never_called_interrupted(workspace):
    """The process is asked before the events, so its last words are always heard."""
    folder = start(workspace, steps=1)
    seen = set()
    while not seen & {"finished", "interrupted"}:
        seen.add(folder.state())
    assert seen <= {"running", "finished"}


def test_a_worker_stopped_by_the_system_is_interrupted(workspace):
    folder = start(workspace, steps=1000)
    os.kill(folder.process().pid, signal.SIGTERM)
    wait_until(lambda: not folder.worker_lives())
    assert folder.state() == "interrupted"


def test_events_of_a_worker_can_be_read_while_they_are_written(workspace):
    folder = start(workspace, steps=200, pause=0.005)
    with EventWriter(folder.path / "copy.jsonl") as copy:
        for event in control.watch(folder, interval=0.001):
            copy.append(event)
    assert (folder.path / "copy.jsonl").read_bytes() == folder.events_path.read_bytes()


# started without waiting, errands


def test_a_job_that_is_about_to_begin_is_queued_also_when_it_ended_before(workspace):
    folder = start(workspace, "user_mistake")
    finish(folder)
    assert folder.state() == "failed"
    with EventWriter(folder.events_path) as events:
        events.append(Event(kind="queued"))
    assert folder.state() == "queued"
    with EventWriter(folder.events_path) as events:
        events.append(Event(kind="queued", time=moment() - timedelta(minutes=5)))
    assert folder.state() == "interrupted"
    control.resume(workspace, folder.id, runner="job_runners:count", wait=False)
    assert folder.state() in ACTIVE


def test_an_errand_has_its_input_and_does_not_wait_for_an_adaptation(workspace):
    adapting = start(workspace, steps=2000)
    errands = []
    for name in ("a", "b"):
        with workspace.staging() as inputs:
            (inputs / f"{name}.txt").write_text(name, encoding="utf-8")
            job = control.new_job(workspace, "export", "kidney", {"steps": 3, "pause": 0.01})
            errands.append(control.start_job(workspace, job, runner="job_runners:count", inputs=inputs, wait=False))
    for errand, name in zip(errands, ("a", "b"), strict=True):
        finish(errand)
        assert errand.state() == "finished"
        assert (errand.input_folder / f"{name}.txt").read_text(encoding="utf-8") == name
    assert adapting.state() == "running"
    assert control.running_job(workspace).id == adapting.id
    control.cancel(adapting)


def test_an_errand_of_another_machine_lives_as_long_as_its_lock(workspace):
    job = control.new_job(workspace, "export", "kidney", {"steps": 1, "pause": 0.01})
    folder = control.start_job(workspace, job, runner="job_runners:count")
    finish(folder)
    launching.append_event(folder, Event(kind="started"))
    write_json(folder.process_path, folder.process().model_copy(update={"host": "elsewhere"}))
    assert folder.state() == "interrupted"
    with folder.lock():
        assert folder.state() == "running"
    with workspace.adapting_lock():
        assert folder.state() == "interrupted"


def test_old_errands_are_cleared_away_but_no_case_that_waits(workspace):
    kept = []
    for kind, runner, age in (
        ("export", "count", 2),
        ("export", "count", 0),
        ("export", "user_mistake", 2),
        ("accept", "count", 2),
        ("accept", "user_mistake", 2),
        ("adapt", "count", 2),
    ):
        job = control.new_job(workspace, kind, "kidney", {"steps": 1, "pause": 0.01})
        created = job.created - timedelta(days=age)
        folder = control.start_job(
            workspace, job.model_copy(update={"created": created}), runner=f"job_runners:{runner}"
        )
        finish(folder)
        kept.append(folder)
    control.clear_errands(workspace)
    assert [folder.path.exists() for folder in kept] == [False, True, False, False, True, True]
