"""One damaged document among many: lists that are shown name it and go on, whoever decides does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result
from workspace_samples import a_task, a_version, add_case, weights_folder

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.imaging.exporting import exportable
from MedSeqFTLib.imaging.thumbnails import known_cases
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.job import JOB_FILE
from MedSeqFTLib.learning.folds import plan_folds
from MedSeqFTLib.learning.forecast import next_adaptation
from MedSeqFTLib.learning.preflight import check_adaptable
from MedSeqFTLib.learning.settings import adapt_settings
from MedSeqFTLib.workspace.damage import in_short, shown_only
from MedSeqFTLib.workspace.drafts import Draft, drafts, store_draft
from MedSeqFTLib.workspace.files import write_json
from MedSeqFTLib.workspace.pruning import kept_versions
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.worklist import worklist_entries
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two tasks; three training and one held-out case of one; three versions; two jobs."""
    made = Workspace.create(tmp_path / "workspace")
    made.add_task(a_task())
    made.add_task(a_task("heart"))
    for number in range(1, 4):
        add_case(made, f"case{number}", b"pixels %d" % number)
    add_case(made, "held-out", b"others", Role.VALIDATION)
    for version, task, parent in (("M0", None, None), ("M1", "brain", "M0"), ("M2", "brain", "M1")):
        files = weights_folder(tmp_path / version)
        made.publish(a_version(version, files, task, parent), files)
    made.promote("M2", "somebody", "for the test")
    for number in (1, 2):
        job = control.new_job(made, "adapt", "brain").model_copy(update={"id": f"adapt-{number}"})
        (made.folder / "jobs" / job.id).mkdir()
        write_json(made.folder / "jobs" / job.id / JOB_FILE, job)
    return Workspace.open(made.folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def put_newer(path: Path) -> None:
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))


def run(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--workspace", str(workspace.folder)])


CASE, TASK, VERSION = "cases/brain/case2/case.json", "tasks/heart.json", "models/M1/version.json"


@pytest.mark.parametrize("damage", [cut, flip, empty, remove, put_newer])
@pytest.mark.parametrize(
    ("command", "document", "key", "others"),
    [
        (("case", "list"), CASE, "id", ["case1", "case3", "held-out"]),
        (("case", "list", "brain", "--role", "train"), CASE, "id", ["case1", "case3"]),
        (("task", "list"), TASK, "name", ["brain"]),
        (("models", "list"), VERSION, "id", ["M0", "M2"]),
        (("models", "list"), "models/current.json", "id", ["M0", "M1", "M2"]),
        (("jobs", "list"), "jobs/adapt-1/job.json", "id", ["adapt-2"]),
    ],
)
def test_a_list_names_what_is_damaged_and_shows_the_others(
    workspace: Workspace,
    command: tuple[str, ...],
    document: str,
    key: str,
    others: list[str],
    damage: Callable[[Path], None],
) -> None:
    if damage is remove and not document.endswith((CASE, VERSION)):
        damage = cut  # without this file there is nothing to list
    damage(workspace.folder / document)
    for shown in (run(workspace, *command), run(workspace, *command, "--json")):
        assert shown.exit_code == 1, shown.output
        assert document in shown.stderr.replace("\\", "/") and "audit verify" in shown.stderr
        assert "Traceback" not in shown.stderr
    listed = [item[key] for item in json.loads(shown.stdout)]
    assert listed == others


def test_a_whole_workspace_is_listed_without_a_word(workspace: Workspace) -> None:
    for command in ("case", "task", "models", "jobs"):
        shown = run(workspace, command, "list")
        assert (shown.exit_code, shown.stderr) == (0, "")


def test_tasks_are_listed_with_the_cases_that_can_be_read(workspace: Workspace) -> None:
    cut(workspace.folder / CASE)
    shown = run(workspace, "task", "list")
    assert shown.exit_code == 1 and CASE in shown.stderr.replace("\\", "/")
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == ["brain", "heart"]


SETTINGS = adapt_settings("quick", {"selection": "random"})
DECISIONS: dict[str, Callable[[Workspace], object]] = {
    "training": lambda workspace: check_adaptable(workspace, "brain", SETTINGS),
    "forecast": lambda workspace: next_adaptation(workspace, "brain", SETTINGS),
    "folds": lambda workspace: plan_folds(workspace, "brain", SETTINGS),
    "held-out cases": lambda workspace: workspace.cases("brain", Role.VALIDATION),
    "export of all": lambda workspace: exportable(workspace, "brain"),
    "near-duplicates": lambda workspace: known_cases(workspace, 0.0),
    "a new case": lambda workspace: add_case(workspace, "case4", b"pixels 4"),
}


@pytest.mark.parametrize("decide", DECISIONS.values(), ids=DECISIONS)
def test_nothing_is_decided_from_fewer_cases(workspace: Workspace, decide: Callable[[Workspace], object]) -> None:
    cut(workspace.folder / CASE)
    with shown_only() as left_out:
        assert len(workspace.cases()) == 3
        assert len(worklist_entries(workspace, "brain")) == 3
    assert len(left_out) == 1
    for _time in range(2):
        with pytest.raises(WorkspaceError, match="case2.case.json"):
            decide(workspace)
    with workspace.remembered.as_listed(), pytest.raises(WorkspaceError, match="case2.case.json"):
        workspace.cases("brain")


def test_nothing_is_thrown_away_while_a_version_cannot_be_read(workspace: Workspace) -> None:
    cut(workspace.folder / VERSION)
    with pytest.raises(WorkspaceError, match="version.json"):
        kept_versions(workspace, timedelta(0))
    assert run(workspace, "workspace", "prune", "--yes").exit_code == 2


def test_commands_that_decide_say_which_document_it_is(workspace: Workspace, tmp_path: Path) -> None:
    cut(workspace.folder / CASE)
    for command in (
        ("adapt", "brain", "--set", "selection=random"),
        ("export", "brain", "--all", "--folder", str(tmp_path / "out")),
    ):
        refused = run(workspace, *command)
        assert refused.exit_code == 2 and "case.json is damaged" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_mended_is_listed_again(workspace: Workspace) -> None:
    whole = (workspace.folder / CASE).read_bytes()
    cut(workspace.folder / CASE)
    with shown_only():
        assert len(worklist_entries(workspace, "brain")) == 3
    (workspace.folder / CASE).write_bytes(whole)
    assert len(worklist_entries(workspace, "brain")) == len(workspace.cases()) == 4


def test_a_damaged_draft_does_not_hide_the_others(workspace: Workspace) -> None:
    for name in ("a", "b"):
        draft = Draft(id=name, task="brain", volume=name, size=(1, 1, 1), spacing=(1, 1, 1))
        store_draft(workspace, draft, lambda path: path.touch())
    cut(workspace.folder / "drafts" / "brain" / "a" / "draft.json")
    with shown_only() as left_out:
        assert [draft.id for draft in drafts(workspace, "brain")] == ["b"]
    assert "draft.json" in in_short(left_out)
    with pytest.raises(WorkspaceError):
        drafts(workspace, "brain")


def test_each_is_named_once_and_several_in_a_line(workspace: Workspace) -> None:
    for name in ("case1", "case3"):
        cut(workspace.folder / "cases" / "brain" / name / "case.json")
    with shown_only() as left_out:
        workspace.cases()
        worklist_entries(workspace, "brain")
    assert len(left_out) == 2
    assert "case1" in in_short(left_out) and "And 1 more." in in_short(left_out)
    assert in_short([]) == ""
