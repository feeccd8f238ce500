"""Freeing space: what may go, what never does, and that everybody knows of what went."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner
from workspace_samples import a_task, a_version, add_case, python, tree, weights_folder

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.events import Event
from MedSeqFTLib.jobs.launching import WorkspaceBusy, append_event
from MedSeqFTLib.jobs.pruning import prune, would_prune
from MedSeqFTLib.learning.preflight import version_for
from MedSeqFTLib.workspace.archive import export_workspace
from MedSeqFTLib.workspace.audit import entries
from MedSeqFTLib.workspace.audit_check import verify
from MedSeqFTLib.workspace.drafts import Draft, drafts, store_draft
from MedSeqFTLib.workspace.files import write_json
from MedSeqFTLib.workspace.schema import now
from MedSeqFTLib.workspace.unpacking import import_workspace
from MedSeqFTLib.workspace.workspace import Workspace

LINEAGE = {  # version: parent, days old
    "M0": (None, 90),
    "M1": ("M0", 80),  # promoted, then followed by M4
    "M2": ("M1", 70),  # a candidate that nothing came of
    "M3": ("M1", 60),  # another, but M4 descends from it
    "M4": ("M3", 50),  # current
    "M5": ("M2", 40),  # an old candidate
    "M6": ("M4", 3),  # a young one
    "M7": ("M4", 45),  # the newest of its task, whatever its date
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace.create(tmp_path / "workspace")
    workspace.add_task(a_task())
    add_case(workspace, "case1", b"pixels")
    for name, (parent, days) in LINEAGE.items():
        folder = weights_folder(tmp_path / name)
        version = a_version(name, folder, None if parent is None else "brain", parent)
        workspace.publish(version.model_copy(update={"created": now() - timedelta(days=days)}), folder)
    workspace.promote("M1", "reader", "better")
    workspace.promote("M4", "reader", "better still")
    return workspace


def has_weights(workspace: Workspace) -> set[str]:
    return {path.parent.name for path in workspace.folder.glob("models/*/backbone.safetensors")}


def test_only_old_candidates_that_nothing_descends_from_go(workspace: Workspace) -> None:
    before = tree(workspace.folder)
    assert [(item.kind, item.name, item.size) for item in would_prune(workspace)] == [
        ("weights", "M2", 1007),
        ("weights", "M5", 1007),
    ]
    assert {n: s for n, s in tree(workspace.folder).items() if not n.endswith(".lock")} == before
    prune(workspace, by="keeper")
    assert has_weights(workspace) == set(LINEAGE) - {"M2", "M5"}
    assert [version.id for version in workspace.versions()] == list(LINEAGE)
    after = tree(workspace.folder)
    gone = {f"models/{name}/{file}" for name in ("M2", "M5") for file in workspace.version(name).files}
    assert set(before) - set(after) == gone
    changed = {name for name in set(before) & set(after) if before[name] != after[name]}
    assert changed == {"audit.jsonl", "audit-head.json"}
    assert would_prune(workspace) == []


def test_a_young_candidate_keeps_its_parents(workspace: Workspace) -> None:
    assert [item.name for item in would_prune(workspace, timedelta(days=42))] == []
    assert [item.name for item in would_prune(workspace, timedelta(0))] == ["M2", "M5", "M6"]


def test_everybody_knows_that_it_was_pruned(workspace: Workspace, tmp_path: Path) -> None:
    prune(workspace, by="keeper")
    assert verify(workspace).problems == ()
    last = list(entries(workspace))[-1][0]
    assert (last.act, last.subject, last.who) == ("pruned", "M2, M5", "keeper")
    moved = import_workspace(export_workspace(workspace, tmp_path / "b.zip").path, tmp_path / "moved").workspace
    assert verify(moved).problems == ()
    for use in (
        lambda: workspace.promote("M5", "reader", "after all"),
        lambda: workspace.verify_version(workspace.version("M5")),
    ):
        with pytest.raises(WorkspaceError, match=r"M5 were pruned on \d{4}-\d\d-\d\d to free space"):
            use()
    workspace.rollback("brain", "reader", "going back still works")
    workspace.verify_version(workspace.version("M1"))


def test_a_pruned_version_is_refused_before_a_job_is_started(workspace: Workspace, tmp_path: Path) -> None:
    folder = weights_folder(tmp_path / "M8")
    plan = {"labels": a_task().labels, "intensity": a_task().intensity, "spacing": (1, 1, 1), "patch": (8, 8, 8)}
    version = a_version("M8", folder, parent="M4").model_dump() | {"plans": {"brain": plan}}
    workspace.publish(type(workspace.version("M0")).model_validate(version), folder)
    workspace.publish(a_version("M9", folder, parent="M4"), folder)
    assert version_for(workspace, "brain", "M8", "per-task").id == "M8"
    prune(workspace, timedelta(0))
    with pytest.raises(WorkspaceError, match="M8 were pruned"):
        version_for(workspace, "brain", "M8", "per-task")


@pytest.mark.parametrize("fake", [True, False])
def test_weights_that_somebody_else_took_away_are_missing(workspace: Workspace, fake: bool) -> None:
    if fake:  # with a note that says they were pruned
        prune(workspace)
        record = workspace.folder / "models/M5/pruned.json"
        (workspace.folder / "models/M4/pruned.json").write_bytes(record.read_bytes())
    (workspace.folder / "models/M4/backbone.safetensors").unlink()
    problems = verify(workspace).problems
    expected = (
        "models/M4/pruned.json is not in the audit log" if fake else "version M4: backbone.safetensors is missing"
    )
    assert [expected in problem for problem in problems] == [True]


def test_what_jobs_and_killed_processes_left(workspace: Workspace, tmp_path: Path) -> None:
    long_ago = time.time() - 2 * 24 * 3600
    files = {
        "cache/abc/image.b2nd": 4000,
        "cache/staging-now/image.nrrd": 10,
        "segmentations/brain/.tmp-old/segmentation.seg.nrrd": 300,
        "drafts/brain/.tmp-new/draft.json": 10,
    }
    draft = Draft(id="d1", task="brain", volume="scan", size=(1, 1, 1), spacing=(1, 1, 1))
    store_draft(workspace, draft, lambda path: path.write_bytes(bytes(10)) and None)
    for name, kind, end in (
        ("adapt-1", "adapt", "finished"),
        ("adapt-2", "adapt", "failed"),
        ("accept-3", "accept", ""),
    ):
        job = control.new_job(workspace, kind, "brain")  # type: ignore[arg-type]
        old = job.model_copy(update={"id": name, "created": now() - timedelta(days=2)})
        (workspace.folder / "jobs" / name).mkdir()
        write_json(workspace.folder / "jobs" / name / "job.json", old)
        if end:
            append_event(control.job(workspace, name), Event(kind=end))  # type: ignore[arg-type]
        files |= {f"jobs/{name}/checkpoints/step.pt": 500, f"jobs/{name}/input/edit.seg.nrrd": 20}
    for name, size in files.items():
        path = workspace.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    os.utime(workspace.folder / "segmentations/brain/.tmp-old", (long_ago, long_ago))
    found = {(item.kind, item.size) for item in would_prune(workspace) if item.kind != "weights"}
    assert found == {("cache", 4000), ("leftovers", 300), ("checkpoints", 500)}
    prune(workspace)
    gone = {name for name in files if not (workspace.folder / name).exists()}
    assert gone == {
        "cache/abc/image.b2nd",
        "segmentations/brain/.tmp-old/segmentation.seg.nrrd",
        "jobs/adapt-1/checkpoints/step.pt",
    }
    assert [draft.id for draft in drafts(workspace, "brain")] == ["d1"]
    assert verify(workspace).problems == ()


def test_a_version_that_a_waiting_job_names_stays(workspace: Workspace) -> None:
    job = control.new_job(workspace, "segment", "brain", {"version": "M5"})
    (workspace.folder / "jobs" / job.id).mkdir()
    write_json(workspace.folder / "jobs" / job.id / "job.json", job)
    assert [item.name for item in would_prune(workspace)] == []


KILLED = """
import os, signal, sys
from MedSeqFTLib.jobs.pruning import prune
from MedSeqFTLib.workspace import pruning
from MedSeqFTLib.workspace.workspace import Workspace
at, name = int(sys.argv[2]), sys.argv[3]
real = getattr(pruning, name)
calls = []
def counting(*arguments):
    calls.append(1)
    if len(calls) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(pruning, name, counting)
prune(Workspace.open(sys.argv[1]))
"""


@pytest.mark.parametrize(("at", "name"), [(1, "write_json"), (2, "write_json"), (1, "_remove"), (3, "_remove")])
def test_pruning_that_was_killed_goes_on(workspace: Workspace, at: int, name: str) -> None:
    process = python(KILLED, workspace.folder, at, name)
    process.communicate()
    assert process.returncode == -9
    assert verify(workspace).problems == ()
    prune(workspace)
    assert has_weights(workspace) == set(LINEAGE) - {"M2", "M5"}
    assert verify(workspace).problems == ()


def test_not_while_a_model_is_made(workspace: Workspace) -> None:
    with workspace.adapting_lock(), pytest.raises(WorkspaceBusy):
        prune(workspace)
    assert has_weights(workspace) == set(LINEAGE)


def test_the_command_says_it_before_it_does_it(workspace: Workspace) -> None:
    arguments = ["workspace", "prune", "--workspace", str(workspace.folder)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "would be freed; to do it: workspace prune --yes" in result.stdout
    assert has_weights(workspace) == set(LINEAGE)
    done = json.loads(CliRunner().invoke(app, [*arguments, "--yes", "--json"]).stdout)
    assert (done["done"], done["size"], [item["name"] for item in done["items"]]) == (True, 2014, ["M2", "M5"])
    assert has_weights(workspace) == set(LINEAGE) - {"M2", "M5"}
    shown = CliRunner().invoke(app, ["models", "show", "M5", "--workspace", str(workspace.folder)])
    assert "pruned" in shown.stdout
