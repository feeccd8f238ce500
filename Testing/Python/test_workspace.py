"""The workspace keeps its promises: atomic, locked, held-out cases stay held out, versions are never rewritten."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import pytest
from filelock import Timeout
from hypothesis import given
from hypothesis import strategies as st
from workspace_samples import a_task, a_version, add_case, python, tree, weights_folder

from MedSeqFTLib.errors import InputError, StorageError, WorkspaceError
from MedSeqFTLib.workspace.files import sha256_of, write_json
from MedSeqFTLib.workspace.schema import Label, Modality, Percentile, Pointers, Role, Task
from MedSeqFTLib.workspace.versions import promoted, rolled_back
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace.create(tmp_path / "workspace")
    workspace.add_task(a_task())
    return workspace


@pytest.fixture
def lineage(workspace: Workspace, tmp_path: Path) -> Workspace:
    """M0 <- M1 (brain) <- M2 (liver) <- M3 (brain)."""
    workspace.add_task(a_task("liver"))
    weights = weights_folder(tmp_path / "weights")
    for number, task in enumerate([None, "brain", "liver", "brain"]):
        parent = f"M{number - 1}" if number else None
        workspace.publish(a_version(workspace.next_version_id(), weights, task, parent), weights)
    return workspace


# making and opening


def test_create_then_open(tmp_path: Path) -> None:
    created = Workspace.create(tmp_path / "new" / "workspace")
    assert Workspace.open(created.folder).info == created.info
    assert (created.tasks(), created.cases(), created.versions(), created.chain_version()) == ([], [], [], None)


def test_create_twice_is_refused(workspace: Workspace) -> None:
    before = tree(workspace.folder)
    with pytest.raises(InputError, match="a MedSeqFT workspace already"):
        Workspace.create(workspace.folder)
    assert tree(workspace.folder) == before


def test_create_beside_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_bytes(b"precious")
    with pytest.raises(InputError, match="not empty"):
        Workspace.create(tmp_path)
    assert list(tree(tmp_path)) == ["thesis.docx"]


def test_create_on_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="is a file"):
        Workspace.create(tmp_path / "file")


def test_create_ends_what_a_killed_create_began(tmp_path: Path) -> None:
    for name in ("tasks", "cases"):
        (tmp_path / name).mkdir()
    assert Workspace.create(tmp_path).tasks() == []


def test_open_of_another_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="medseqft init"):
        Workspace.open(tmp_path)


def test_newer_workspace_is_refused(workspace: Workspace) -> None:
    path = workspace.folder / "workspace.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"schema_version": 1', '"schema_version": 9'), encoding="utf-8"
    )
    with pytest.raises(WorkspaceError, match=r"workspace\.json was written by a newer MedSeqFT"):
        Workspace.open(workspace.folder)


# tasks


def test_tasks_by_name(workspace: Workspace) -> None:
    workspace.add_task(a_task("abdomen"))
    assert [task.name for task in workspace.tasks()] == ["abdomen", "brain"]
    assert workspace.task("brain").labels[1].name == "white matter"


@pytest.mark.parametrize("name", ["brain", "Brain"])
def test_task_is_never_rewritten(workspace: Workspace, name: str) -> None:
    before = tree(workspace.folder)
    with pytest.raises(InputError, match="has a task brain already"):
        workspace.add_task(a_task(name))
    assert tree(workspace.folder) == before


@pytest.mark.parametrize("name", ["../brain", "/etc/passwd", "CON", "x/y", "", "missing"])
def test_unknown_task_is_an_input_error(workspace: Workspace, name: str) -> None:
    with pytest.raises(InputError):
        workspace.task(name)
    with pytest.raises(InputError):
        workspace.cases(task=name)


def test_device_name_is_no_task_name(workspace: Workspace) -> None:
    before = tree(workspace.folder)
    with pytest.raises(InputError, match="Windows"):
        workspace.add_task(a_task("nul"))
    assert tree(workspace.folder) == before


def test_labels_must_differ() -> None:
    labels = (Label(value=1, name="a", color=(0, 0, 0)), Label(value=2, name="A", color=(0, 0, 0)))
    with pytest.raises(ValueError, match="label names must differ"):
        Task(name="t", modality=Modality.MR, labels=labels, intensity=Percentile())


def test_renamed_task_file_is_noticed(workspace: Workspace) -> None:
    (workspace.folder / "tasks" / "brain.json").rename(workspace.folder / "tasks" / "liver.json")
    with pytest.raises(WorkspaceError, match=r"liver\.json is damaged: it says name 'brain'"):
        workspace.tasks()


# cases


def test_case_is_stored_whole(workspace: Workspace) -> None:
    case = add_case(workspace, "c1", b"pixels")
    assert workspace.case("brain", "c1") == case
    assert workspace.image_path(case).read_bytes() == b"pixels"
    assert workspace.segmentation_path(case).name == "segmentation.seg.nrrd"
    workspace.verify_case(case)


def test_cases_by_task_and_role(workspace: Workspace) -> None:
    workspace.add_task(a_task("liver"))
    add_case(workspace, "c2", b"2")
    add_case(workspace, "c1", b"1", Role.VALIDATION)
    add_case(workspace, "c1", b"1", task="liver")  # another task may use the same scan
    assert [(case.task, case.id) for case in workspace.cases()] == [("brain", "c1"), ("brain", "c2"), ("liver", "c1")]
    assert [case.id for case in workspace.cases(task="brain", role=Role.VALIDATION)] == ["c1"]
    assert [case.task for case in workspace.cases(role=Role.TRAIN)] == ["brain", "liver"]


@pytest.mark.parametrize(
    ("case_id", "pixels", "role", "changes", "message"),
    [
        ("c1", b"other", Role.TRAIN, {}, "has a case c1 already"),
        ("C1", b"other", Role.TRAIN, {}, "has a case c1 already"),
        ("c2", b"pixels", Role.VALIDATION, {}, "already the validation case c1"),
        ("c2", b"pixels", Role.TRAIN, {}, "a role never changes, so it cannot become a train case"),
        ("c1", b"pixels", Role.TRAIN, {}, "a role never changes"),
        ("c2", b"other", Role.TRAIN, {"label_voxels": {"spleen": 3}}, "does not know: spleen"),
        ("c2", b"other", Role.TRAIN, {"task": "liver"}, "no task 'liver'"),
        ("aux", b"other", Role.TRAIN, {}, "Windows"),
    ],
)
def test_refused_case_changes_nothing(
    workspace: Workspace, case_id: str, pixels: bytes, role: Role, changes: dict[str, object], message: str
) -> None:
    add_case(workspace, "c1", b"pixels", Role.VALIDATION)
    before = tree(workspace.folder)
    with pytest.raises(InputError, match=message):
        add_case(workspace, case_id, pixels, role, **changes)
    assert tree(workspace.folder) == before


@pytest.mark.parametrize("case_id", ["../c1", "a/b", "x.", "/c1", "é"])
def test_names_that_leave_the_workspace(workspace: Workspace, case_id: str) -> None:
    before = tree(workspace.folder)
    with pytest.raises(ValueError, match="should match pattern"):
        add_case(workspace, case_id, b"pixels")
    with pytest.raises(InputError, match="cannot be used"):
        workspace.case("brain", case_id)
    assert tree(workspace.folder) == before


def test_case_that_changed_while_staged_is_refused(workspace: Workspace) -> None:
    before = tree(workspace.folder)
    with pytest.raises(WorkspaceError, match=r"image\.nrrd is damaged"):
        add_case(workspace, "c1", b"pixels", image_sha256="0" * 64)
    assert tree(workspace.folder) == before


def test_verify_names_the_damaged_file(workspace: Workspace) -> None:
    case = add_case(workspace, "c1", b"pixels")
    workspace.segmentation_path(case).write_bytes(b"flipped")
    with pytest.raises(WorkspaceError, match=r"segmentation\.seg\.nrrd is damaged"):
        workspace.verify_case(case)
    workspace.image_path(case).unlink()
    with pytest.raises(WorkspaceError, match=r"Cannot read .*image\.nrrd"):
        workspace.verify_case(case)


def test_damaged_case_record_is_named(workspace: Workspace) -> None:
    add_case(workspace, "c1", b"pixels")
    path = workspace.case_folder("brain", "c1") / "case.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"train"', '"test"'), encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"case\.json is damaged: field role"):
        workspace.cases()


def test_listings_ignore_hidden_and_foreign_entries(lineage: Workspace) -> None:
    add_case(lineage, "c1", b"pixels")
    for name in (
        "tasks/.tmp-1.json",
        "tasks/._brain.json",
        "cases/brain/.DS_Store",
        "models/.tmp-2",
        "models/notes.txt",
    ):
        (lineage.folder / name).write_bytes(b"?")
    (lineage.folder / "models" / "my backup").mkdir()
    (lineage.folder / "cases" / "brain" / ".tmp-3").mkdir()
    assert len(lineage.tasks()) == 2
    assert len(lineage.cases()) == 1
    assert [version.id for version in lineage.versions()] == ["M0", "M1", "M2", "M3"]


def test_next_write_clears_leftovers_but_nothing_else(workspace: Workspace) -> None:
    add_case(workspace, "c1", b"pixels")
    before = tree(workspace.folder)
    for name in (".tmp-0.json", "tasks/.tmp-1.json", "models/.tmp-2", "cases/.tmp-3", "cases/brain/.tmp-4"):
        (workspace.folder / name).mkdir()
    with workspace.lock():
        assert tree(workspace.folder) == before


def test_a_leftover_of_a_killed_worker_is_cleared_wherever_it_lies(workspace: Workspace) -> None:
    """At once where only the holder of the lock writes; what is written without the lock may still be in use."""
    at_once, in_time = ("segmentations/brain",), ("drafts/brain", "jobs", "cache")
    for name in (*at_once, *in_time):
        (workspace.folder / name / ".tmp-1").mkdir(parents=True)
    with workspace.lock():
        assert [(workspace.folder / name / ".tmp-1").exists() for name in (*at_once, *in_time)] == [False, *[True] * 3]
    for name in in_time:
        os.utime(workspace.folder / name / ".tmp-1", (time.time() - 90_000,) * 2)
    with workspace.lock():
        assert list(workspace.folder.rglob(".tmp-*")) == []


def test_old_staging_is_cleared_and_fresh_is_kept(workspace: Workspace) -> None:
    with workspace.staging() as old, workspace.staging() as fresh:
        os.utime(old, (time.time() - 90_000,) * 2)
        with workspace.lock():
            assert not old.exists()
            assert fresh.exists()
    assert list((workspace.folder / "cache").iterdir()) == []


# versions


def test_versions_oldest_first(lineage: Workspace, tmp_path: Path) -> None:
    for number in range(4, 12):
        version = a_version(f"M{number}", tmp_path / "weights", "brain", "M0")
        lineage.publish(version, tmp_path / "weights")
    assert [version.id for version in lineage.versions()] == [f"M{number}" for number in range(12)]
    assert lineage.next_version_id() == "M12"


def test_published_files_are_copies(lineage: Workspace, tmp_path: Path) -> None:
    folder = lineage.version_folder("M1")
    assert sha256_of(folder / "adapter/adapter_model.safetensors") == sha256_of(
        tmp_path / "weights/adapter/adapter_model.safetensors"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["adapter", "backbone.safetensors", "version.json"]
    lineage.verify_version(lineage.version("M1"))


def test_undeclared_files_are_not_published(workspace: Workspace, tmp_path: Path) -> None:
    weights = weights_folder(tmp_path / "weights")
    version = a_version("M0", weights, None)
    (weights / "scratch.bin").write_bytes(b"?")
    workspace.publish(version, weights)
    assert not (workspace.version_folder("M0") / "scratch.bin").exists()


def test_version_is_never_rewritten(lineage: Workspace, tmp_path: Path) -> None:
    before = tree(lineage.folder)
    with pytest.raises(InputError, match="M1 exists already"):
        lineage.publish(a_version("M1", tmp_path / "weights"), tmp_path / "weights")
    assert tree(lineage.folder) == before


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"files": {"backbone.safetensors": "0" * 64}}, WorkspaceError, r"backbone\.safetensors is damaged"),
        ({"files": {"missing.safetensors": "0" * 64}}, WorkspaceError, "is not a file"),
        ({"files": {"../weights/backbone.safetensors": "0" * 64}}, WorkspaceError, "not a path inside"),
        ({"files": {"/etc/hostname": "0" * 64}}, WorkspaceError, "not a path inside"),
        ({"files": {"C:\\x": "0" * 64}}, WorkspaceError, "not a path inside"),
        ({"files": {"": "0" * 64}}, WorkspaceError, "not a path inside"),
        ({"files": {"version.json": "0" * 64}}, WorkspaceError, "not a path inside"),
        ({"parent": "M7"}, InputError, "no model version M7"),
        ({"id": "latest"}, InputError, "not a model version"),
        ({"id": "M01"}, InputError, "not a model version"),
    ],
)
def test_refused_version_changes_nothing(
    workspace: Workspace, tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    weights = weights_folder(tmp_path / "weights")
    before = tree(workspace.folder)
    with pytest.raises(error, match=message):
        workspace.publish(a_version("M0", weights, None).model_copy(update=changes), weights)
    assert tree(workspace.folder) == before


@pytest.mark.parametrize("version_id", ["../M0", "", "M-1", "M", "m0", "M99"])
def test_unknown_version_is_an_input_error(lineage: Workspace, version_id: str) -> None:
    with pytest.raises(InputError):
        lineage.version(version_id)


# what is current


def test_chain_begins_at_the_newest_foundation(lineage: Workspace, tmp_path: Path) -> None:
    assert lineage.chain_version() == lineage.version("M0")
    lineage.publish(a_version("M4", tmp_path / "weights", None), tmp_path / "weights")
    assert lineage.chain_version() == lineage.version("M4")


def test_promote_moves_task_and_chain(lineage: Workspace) -> None:
    lineage.promote("M1", "Ada", "better")
    lineage.promote("M2", "Ada", "better")
    pointers = lineage.pointers()
    assert pointers.tasks == {"brain": "M1", "liver": "M2"}
    assert pointers.chain == "M2"
    assert (pointers.history[-1].who, pointers.history[-1].chain_before) == ("Ada", "M1")


def test_rollback_returns_to_the_version_before_and_to_nothing(lineage: Workspace) -> None:
    for version in ("M1", "M2", "M3"):
        lineage.promote(version, "Ada", "")
    assert lineage.rollback("brain", "Ada", "worse") == lineage.version("M1")
    assert lineage.pointers().chain == "M2"  # the parent of M3
    assert lineage.rollback("brain", "Ada", "worse") is None
    assert lineage.pointers().tasks == {"liver": "M2"}
    assert lineage.pointers().chain == "M2"  # the chain was not M1, so it stays
    with pytest.raises(InputError, match="nothing to roll back"):
        lineage.rollback("brain", "Ada", "worse")


def test_rollback_of_the_first_stage_returns_the_chain_to_the_foundation(lineage: Workspace) -> None:
    lineage.promote("M1", "Ada", "")
    assert lineage.rollback("brain", "Ada", "") is None
    assert lineage.current_version("brain") is None
    assert lineage.chain_version() == lineage.version("M0")


def test_rollback_after_rollback_and_new_promotion(lineage: Workspace) -> None:
    lineage.promote("M1", "Ada", "")
    lineage.promote("M3", "Ada", "")
    lineage.rollback("brain", "Ada", "")
    lineage.promote("M3", "Ada", "second thought")
    assert lineage.rollback("brain", "Ada", "") == lineage.version("M1")
    assert lineage.rollback("brain", "Ada", "") is None
    assert [move.kind for move in lineage.pointers().history].count("rollback") == 3


@pytest.mark.parametrize(
    ("version", "message"), [("M0", "foundation model"), ("M1", "already the current"), ("M9", "no model version")]
)
def test_refused_promotion_changes_nothing(lineage: Workspace, version: str, message: str) -> None:
    lineage.promote("M1", "Ada", "")
    before = tree(lineage.folder)
    with pytest.raises(InputError, match=message):
        lineage.promote(version, "Ada", "")
    assert tree(lineage.folder) == before


def test_damaged_version_is_not_promoted(lineage: Workspace) -> None:
    (lineage.version_folder("M1") / "backbone.safetensors").write_bytes(b"flipped")
    with pytest.raises(WorkspaceError, match=r"backbone\.safetensors is damaged"):
        lineage.promote("M1", "Ada", "")
    assert lineage.current_version("brain") is None


def test_pointers_without_their_history_are_damaged(lineage: Workspace) -> None:
    write_json(lineage.folder / "models" / "current.json", Pointers(chain="M1", tasks={"brain": "M1"}))
    with pytest.raises(WorkspaceError, match=r"current\.json is damaged"):
        lineage.rollback("brain", "Ada", "")


@given(st.lists(st.one_of(st.integers(0, 9), st.none()), max_size=30))
def test_any_promotions_and_rollbacks_behave_like_a_stack(moves: list[int | None]) -> None:
    """An integer promotes that version, None rolls back."""
    version = a_version("M0", Path("/nowhere"))
    pointers, stack = Pointers(), list[str]()
    for move in moves:
        if move is None and stack:
            pointers = rolled_back(pointers, "brain", None, "Ada", "")
            stack.pop()
        elif move is not None and stack[-1:] != [f"M{move}"]:
            pointers = promoted(pointers, version.model_copy(update={"id": f"M{move}"}), "Ada", "")
            stack.append(f"M{move}")
        assert pointers.tasks.get("brain") == (stack[-1] if stack else None)


# several processes

HOLD = """
import sys, time
from MedSeqFTLib.workspace.workspace import Workspace
with Workspace.open(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(600)
"""


def test_other_process_waits_for_the_lock_and_gets_it_when_the_holder_is_killed(workspace: Workspace) -> None:
    holder = python(HOLD, workspace.folder)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceError, match="in use by another process"), workspace.lock(timeout=0.2):
            pass
        assert workspace.task("brain").name == "brain"  # reading needs no lock
    finally:
        holder.kill()
        holder.communicate()
    workspace.add_task(a_task("liver"))
    assert len(workspace.tasks()) == 2


def test_lock_may_be_nested(workspace: Workspace) -> None:
    with workspace.lock(), workspace.lock(timeout=0):
        workspace.add_task(a_task("liver"))
    with Workspace.open(workspace.folder).lock(timeout=0):
        pass


ADD_CASES = """
import sys
from workspace_samples import add_case
from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.workspace import Workspace
workspace = Workspace.open(sys.argv[1])
for number in range(8):
    try:
        add_case(workspace, f"c{number}", f"pixels {number}".encode())
        print(number)
    except InputError as error:
        assert "already the train case" in str(error), error
"""


def test_two_processes_accept_every_scan_once(workspace: Workspace) -> None:
    processes = [python(ADD_CASES, workspace.folder) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    accepted = sorted(number for stdout, _ in outputs for number in stdout.split())
    assert accepted == [str(number) for number in range(8)]
    assert len(workspace.cases()) == 8


def test_adapting_lock_keeps_a_second_worker_out(workspace: Workspace) -> None:
    with workspace.adapting_lock().acquire(timeout=0), pytest.raises(Timeout):
        Workspace.open(workspace.folder).adapting_lock().acquire(timeout=0)
    assert workspace.job_lock_path == workspace.folder / "jobs" / "adapting.lock"


PUBLISH_FOR_EVER = """
import sys
from pathlib import Path
from workspace_samples import a_version, add_case
from MedSeqFTLib.workspace.workspace import Workspace
workspace, weights = Workspace.open(sys.argv[1]), Path(sys.argv[2])
declared = a_version("M0", weights, None)
first = len(workspace.cases())
print("started", flush=True)
for number in range(first, 10_000):
    workspace.publish(declared.model_copy(update={"id": workspace.next_version_id()}), weights)
    add_case(workspace, f"c{number}", f"{number}".encode() * 100_000)
"""


def test_killed_in_the_middle_leaves_nothing_half_visible(workspace: Workspace, tmp_path: Path) -> None:
    weights = weights_folder(tmp_path / "weights", size=3_000_000)
    chance = random.Random(0)
    for _ in range(4):
        process = python(PUBLISH_FOR_EVER, workspace.folder, weights)
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        time.sleep(0.1 + 0.4 * chance.random())
        assert process.poll() is None
        process.kill()
        process.communicate()
        for version in workspace.versions():
            workspace.verify_version(version)
        for case in workspace.cases():
            workspace.verify_case(case)
    assert workspace.versions()


KILLED_BEFORE_RENAME = """
import os, sys
from pathlib import Path
from workspace_samples import a_version, add_case
from MedSeqFTLib.workspace import files
from MedSeqFTLib.workspace.workspace import Workspace
workspace, weights = Workspace.open(sys.argv[1]), Path(sys.argv[2])
replace = os.replace
def die_at_the_last_rename(source, target):
    if Path(target).name == sys.argv[3]:
        os._exit(9)
    replace(source, target)
files.os.replace = die_at_the_last_rename
if sys.argv[3] == "c1":
    add_case(workspace, "c1", b"pixels")
elif sys.argv[3] == "M0":
    workspace.publish(a_version("M0", weights, None), weights)
"""


@pytest.mark.parametrize("target", ["M0", "c1"])
def test_death_just_before_the_last_rename(workspace: Workspace, tmp_path: Path, target: str) -> None:
    weights = weights_folder(tmp_path / "weights")
    before = tree(workspace.folder)
    process = python(KILLED_BEFORE_RENAME, workspace.folder, weights, target)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 9, stderr
    assert tree(workspace.folder) != before  # the dead process left something
    assert (workspace.versions(), workspace.cases()) == ([], [])
    workspace.publish(a_version("M0", weights, None), weights)
    add_case(workspace, "c1", b"pixels")
    assert [path.name for path in workspace.folder.rglob(".tmp-*")] == []


DISK_FULL = """
import resource, sys
from pathlib import Path
from workspace_samples import a_version, add_case
from MedSeqFTLib.errors import StorageError
from MedSeqFTLib.workspace.workspace import Workspace
workspace, weights = Workspace.open(sys.argv[1]), Path(sys.argv[2])
version = a_version("M0", weights, None)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    workspace.publish(version, weights)
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file size limits")
@pytest.mark.parametrize("limit", [0, 100, 500_000], ids=["nothing", "little", "not enough"])
def test_disk_full_while_publishing_changes_nothing(workspace: Workspace, tmp_path: Path, limit: int) -> None:
    weights = weights_folder(tmp_path / "weights", size=1_000_000)
    before = tree(workspace.folder)
    stdout, stderr = python(DISK_FULL, workspace.folder, weights, limit).communicate(timeout=60)
    assert "disk is full" in stdout, stderr
    assert "M0" in stdout
    assert stdout.count("\n") == 1
    assert tree(workspace.folder) == before
    assert workspace.versions() == []


def test_read_only_workspace_is_a_storage_error(workspace: Workspace) -> None:
    (workspace.folder / "tasks" / "brain.json").unlink()
    (workspace.folder / "tasks").rmdir()
    (workspace.folder / "tasks").write_bytes(b"in the way")
    with pytest.raises(StorageError, match="Cannot write"):
        workspace.add_task(a_task())
