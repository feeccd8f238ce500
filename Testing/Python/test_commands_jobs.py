"""`medseqft adapt` and `medseqft jobs` with real workers, which count instead of training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import workspace_samples as samples

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.commands.watching import duration
from MedSeqFTLib.jobs import control, system
from MedSeqFTLib.workspace.schema import CaseScore, TaskScores
from MedSeqFTLib.workspace.workspace import Workspace

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parents[1]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("COLUMNS", "200")
    workspace = Workspace.create(tmp_path / "workspace")
    workspace.add_task(samples.a_task())
    monkeypatch.setenv("MEDSEQFT_WORKSPACE", str(workspace.folder))
    yield workspace
    for folder in control.list_jobs(workspace):
        if process := folder.process():
            system.kill_tree(process.pid, process.create_time)


@pytest.fixture
def medseqft(capsys):
    """Run a command: exit code, stdout, stderr."""

    def run(*arguments):
        code = app(list(arguments), standalone_mode=False)
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), " ".join(captured.err.split())

    return run


def start(workspace, runner="count", steps=3, pause=0.01, version="M7"):
    settings = {"steps": steps, "pause": pause, "version": version}
    job = control.new_job(workspace, "adapt", "brain", settings, seed=5)
    return control.start_job(workspace, job, runner=f"job_runners:{runner}")


def finished(workspace, *arguments, **settings):
    folder = start(workspace, *arguments, **settings)
    list(control.watch(folder, interval=0.02))
    return folder


def scores(task, reading, version, dice):
    case = CaseScore(case="v1", dice={"grey matter": dice})
    return TaskScores(task=task, reading=reading, version=version, cases=(case,), mean_dice=dice)


def publish(workspace, tmp_path, *measured):
    """M0, and M1 with scores."""
    for name, parent, task in (("M0", None, None), ("M1", "M0", "brain")):
        files = samples.weights_folder(tmp_path / name)
        version = samples.a_version(name, files, task, parent)
        workspace.publish(version.model_copy(update={"scores": measured if task else ()}), files)


MEASURED = (
    scores("brain", "per-task", "M1", 0.8125),
    scores("brain", "single-model", "M1", 0.75),
    scores("heart", "per-task", "M0", 0.9),
    scores("heart", "single-model", "M0", 0.875),
    scores("heart", "single-model", "M1", 0.5),
)


# jobs list, show


def test_without_jobs(workspace, medseqft):
    assert medseqft("jobs", "list") == (0, "No jobs yet: medseqft adapt starts one", "")
    assert medseqft("jobs", "list", "--json")[:2] == (0, "[]")
    code, out, err = medseqft("jobs", "show")
    assert (code, out) == (2, "")
    assert "no job yet" in err


def test_list_and_show(workspace, medseqft):
    folder = finished(workspace)
    code, out, _ = medseqft("jobs", "list")
    assert code == 0
    assert f"{folder.id} adapt brain finished M7" in out
    code, out, _ = medseqft("jobs", "show", folder.id)
    assert code == 0
    for part in ("State finished", "Seed 5", "Stage count, step 3 of 3", "Device cpu", "Version M7", "worker.log"):
        assert part in out
    assert "Time left" not in out


def test_show_as_json(workspace, medseqft):
    folder = finished(workspace)
    code, out, err = medseqft("jobs", "show", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert {key: document[key] for key in ("id", "state", "step", "total", "version", "device", "seed")} == {
        "id": folder.id,
        "state": "finished",
        "step": 3,
        "total": 3,
        "version": "M7",
        "device": "cpu",
        "seed": 5,
    }
    assert json.loads(medseqft("jobs", "list", "--json")[1]) == [document]


def test_show_prefers_the_running_job(workspace, medseqft):
    finished(workspace)
    running = start(workspace, steps=1000)
    document = json.loads(medseqft("jobs", "show", "--json")[1])
    assert (document["id"], document["state"]) == (running.id, "running")


def test_an_unknown_job(workspace, medseqft):
    code, _, err = medseqft("jobs", "show", "nonsense")
    assert code == 2
    assert "no job 'nonsense' (jobs: none yet)" in err


# jobs watch


def test_watch_shows_the_stages_and_the_dice(workspace, medseqft, tmp_path):
    publish(workspace, tmp_path, *MEASURED)
    start(workspace, steps=20, pause=0.02, version="M1")
    code, out, err = medseqft("jobs", "watch")
    assert code == 0
    assert "count: 20 steps" in err
    assert "Computing on cpu." in err
    rows = (
        "brain each task by its own model none 0.812",
        "brain all tasks by one model none 0.750",
        "heart each task by its own model 0.900 0.900 +0.000",
        "heart all tasks by one model 0.875 0.500 -0.375",
    )
    positions = [out.index(row) for row in rows]
    assert positions == sorted(positions)
    assert "M1 is not in use. Promote it with: medseqft models promote M1" in out


def test_watch_tells_that_a_version_is_in_use(workspace, medseqft, tmp_path):
    publish(workspace, tmp_path)
    workspace.promote("M1", "test", "")
    finished(workspace, version="M1")
    code, out, _ = medseqft("jobs", "watch")
    assert code == 0
    assert "No held-out cases: nothing was measured." in out
    assert "M1 is current for brain. Undo: medseqft models rollback brain" in out


def test_watch_as_json(workspace, medseqft, tmp_path):
    publish(workspace, tmp_path, *MEASURED)
    start(workspace, version="M1")
    code, out, err = medseqft("jobs", "watch", "--json")
    document = json.loads(out)
    assert (code, err, document["state"], document["is_current"]) == (0, "", "finished", False)
    assert document["dice"][-1] == {
        "task": "heart",
        "reading": "single-model",
        "before": 0.875,
        "after": 0.5,
        "judgement": None,
    }
    assert document["verdict"].startswith("first version of brain, held-out Dice 0.812")


@pytest.mark.parametrize(
    ("runner", "line"),
    [
        (
            "user_mistake",
            "failed: Task kidney has no training cases; accept some first. (after mending it, go on",
        ),
        ("bug", "failed: ZeroDivisionError: division by zero; see worker.log"),
    ],
)
def test_watching_a_job_that_fails(workspace, medseqft, runner, line):
    folder = start(workspace, runner)
    code, out, err = medseqft("jobs", "watch", folder.id)
    assert (code, out) == (1, "")
    assert f"Error: Job {folder.id} {line}" in err
    assert f"medseqft jobs resume {folder.id}" in err
    code, out, _ = medseqft("jobs", "watch", folder.id, "--json")
    assert (code, json.loads(out)["state"]) == (1, "failed")


def test_ctrl_c_ends_the_watching_but_not_the_job(workspace):
    if os.name == "nt":
        pytest.skip("Ctrl-C cannot be sent to a single process on Windows")
    folder = start(workspace, steps=10_000)
    command = [sys.executable, "-m", "MedSeqFTLib.commands", "jobs", "watch"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as watching:
        first = watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        _, rest = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert f"medseqft jobs cancel {folder.id}" in first + rest
    assert "Traceback" not in rest
    assert folder.state() == "running"


# jobs cancel, resume


def test_cancel_and_resume(workspace, medseqft):
    folder = start(workspace, steps=100_000)
    code, out, _ = medseqft("jobs", "cancel")
    assert (code, folder.state()) == (0, "cancelled")
    assert f"medseqft jobs resume {folder.id}" in out
    code, _, err = medseqft("jobs", "cancel", folder.id)
    assert code == 1
    assert "is cancelled; only a running job can be cancelled" in err
    code, _, err = medseqft("jobs", "watch", folder.id)
    assert code == 1
    assert "was cancelled; go on with" in err


def test_cancel_kills_what_does_not_listen(workspace, medseqft):
    folder = start(workspace, "deaf")
    code, out, _ = medseqft("jobs", "cancel", folder.id, "--grace", "0.2", "--json")
    assert (code, json.loads(out)["state"]) == (0, "cancelled")
    assert not folder.worker_lives()


def test_a_finished_job_is_not_resumed(workspace, medseqft):
    finished(workspace)
    code, _, err = medseqft("jobs", "resume")
    assert code == 1
    assert "is finished; only interrupted" in err


# adapt: what is refused


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["heart"], "no task 'heart' (tasks: brain)"),
        (["brain"], "Task 'brain' has no training case"),
        (["brain", "--preset", "huge"], "huge"),
        (["brain", "--device", "tpu"], "field device"),
        (["brain", "--set", "lora_rank"], "write it as KEY=VALUE"),
        (["brain", "--set", "lora_rank=many"], "field lora_rank"),
        (["brain", "--set", "colour=red"], "field colour"),
        (["brain", "--seed", "-1"], "--seed"),
    ],
)
def test_adapt_refuses(workspace, medseqft, arguments, line):
    code, out, err = medseqft("adapt", *arguments)
    assert (code, out) == (2, "")
    assert line in err
    assert list((workspace.folder / "jobs").glob("*/")) == []


def test_adapt_refuses_a_second_job(workspace, medseqft):
    samples.add_case(workspace, "t1", b"pixels")
    folder = start(workspace, steps=10_000)
    code, _, err = medseqft("adapt", "brain")
    assert code == 2
    assert f"medseqft jobs cancel {folder.id}" in err
    assert [job.id for job in control.list_jobs(workspace)] == [folder.id]


@pytest.mark.slow
def test_adapt_starts_the_learning_itself(workspace, medseqft):
    samples.add_case(workspace, "t1", b"no image at all")
    code, out, err = medseqft(
        "adapt", "brain", "--preset", "quick", "--device", "cpu", "--set", "lora_rank=4", "--wait"
    )
    assert (code, out) == (1, "")
    (folder,) = control.list_jobs(workspace)
    assert folder.job.settings["lora_rank"] == 4
    assert (folder.job.task, folder.state()) == ("brain", "failed")
    assert "t1/image.nrrd" in err.replace("\\", "/")
    assert "see worker.log" not in err  # a damaged image is no bug


def test_the_help_is_quick_and_light():
    script = (
        "import sys; from MedSeqFTLib.commands.app import app; app(['adapt', '--help'], standalone_mode=False);"
        "print(sorted({'torch', 'SimpleITK', 'monai', 'psutil', 'filelock'} & set(sys.modules)))"
    )
    out = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True, encoding="utf-8")
    assert out.rstrip().endswith("[]")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3570, "1 h 00 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_report_is_written_by_a_worker(medseqft, workspace, tmp_path):
    publish(workspace, tmp_path)
    code, out, _ = medseqft("report", "--json")
    path = workspace.folder / "report.html"
    assert (code, json.loads(out)) == (0, {"report": str(path)})
    assert "M1" in path.read_text(encoding="utf-8")
    assert medseqft("report")[0] == 0
    (workspace.folder / "models" / "M1" / "version.json").write_text("{", encoding="utf-8")
    code, _, err = medseqft("report")
    assert code == 1 and "version.json" in err
