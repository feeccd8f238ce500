"""Backup and moving: what is in an archive, and that nothing but a whole, unaltered workspace comes out of one."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from workspace_samples import a_task, a_version, add_case, python, tree, weights_folder

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import InputError, MedSeqFTError, StorageError, WorkspaceError
from MedSeqFTLib.workspace import files
from MedSeqFTLib.workspace.archive import CONTENTS, MANIFEST, archive_lock, export_workspace
from MedSeqFTLib.workspace.audit import entries
from MedSeqFTLib.workspace.audit_check import verify
from MedSeqFTLib.workspace.drafts import Draft, remove_draft, store_draft
from MedSeqFTLib.workspace.unpacking import import_workspace
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return a_workspace(tmp_path, 3 << 20)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive."""
    folder = tmp_path_factory.mktemp("good")
    return export_workspace(a_workspace(folder), folder / "good.zip").path


def a_workspace(tmp_path: Path, weights: int = 10_000) -> Workspace:
    """A task, a case, a promoted version, a draft, an edit on its way, and what no backup needs."""
    workspace = Workspace.create(tmp_path / "workspace")
    workspace.add_task(a_task())
    add_case(workspace, "case1", b"pixels " * 1000)
    folder = weights_folder(tmp_path / "weights", weights)
    workspace.publish(a_version("M1", folder), folder)
    workspace.promote("M1", "reader", "better")
    draft = Draft(id="d1", task="brain", volume="scan", size=(4, 5, 6), spacing=(1, 1, 1))
    store_draft(workspace, draft, lambda path: path.write_bytes(b"an edit"))
    for name, content in {
        "jobs/accept-1/job.json": b"{}",
        "jobs/accept-1/process.json": b"{}",
        "jobs/accept-1/input/edit.seg.nrrd": b"an edit on its way",
        "jobs/adapt-1/job.json": b"{}",
        "jobs/adapt-1/checkpoints/step.pt": bytes(1000),
        "cache/abc/image.b2nd": bytes(1000),
        "drafts/.tmp-1234/draft.json": b"half",
        "report.html": b"<p>",
        "notes of mine.txt": b"keep",
    }.items():
        path = workspace.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return workspace


def test_everything_needed_moves_and_nothing_else(workspace: Workspace, tmp_path: Path) -> None:
    before = tree(workspace.folder / "models") | tree(workspace.folder / "cases" / "brain")
    exported = export_workspace(workspace, tmp_path / "backup.zip", by="keeper")
    moved = import_workspace(exported.path, tmp_path / "moved").workspace
    assert {"/".join(name.split("/")[:2]) for name in exported.manifest.files} == {
        *("workspace.json", "audit.jsonl", "audit-head.json", "notes of mine.txt", "tasks/brain.json", "cases/brain"),
        *("models/M1", "models/current.json", "drafts/brain", "jobs/accept-1"),
    }
    assert set(exported.manifest.left_out) == {
        *("cache", "temporary files", "records and logs of jobs", "checkpoints of jobs"),
        *("locks and process numbers", "report"),
    }
    assert tree(moved.folder / "models") | tree(moved.folder / "cases" / "brain") == before
    assert verify(moved).problems == ()
    assert [entry.act for entry, _ in entries(workspace)][-1] == "exported"
    last = list(entries(moved))[-1][0]
    assert (last.act, last.reason) == ("imported", exported.manifest.audit_head)
    moved.rollback("brain", "reader", "the moved workspace works")


def test_records_of_jobs_come_along_if_wanted(workspace: Workspace, tmp_path: Path) -> None:
    found = export_workspace(workspace, tmp_path / "backup.zip", jobs=True).manifest.files
    assert {name for name in found if name.startswith("jobs")} == {
        *("jobs/accept-1/job.json", "jobs/accept-1/input/edit.seg.nrrd", "jobs/adapt-1/job.json"),
    }


def test_what_is_compressed_already_is_stored(workspace: Workspace, tmp_path: Path) -> None:
    export_workspace(workspace, tmp_path / "backup.zip")
    with zipfile.ZipFile(tmp_path / "backup.zip") as archive:
        kinds = {info.filename.rsplit(".", 1)[1]: info.compress_type for info in archive.infolist()}
    assert (kinds["nrrd"], kinds["safetensors"], kinds["json"]) == (0, 0, zipfile.ZIP_DEFLATED)


def test_an_archive_is_never_overwritten_without_a_word(workspace: Workspace, tmp_path: Path) -> None:
    export_workspace(workspace, tmp_path / "backup.zip")
    before = (tmp_path / "backup.zip").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        export_workspace(workspace, tmp_path / "backup.zip")
    assert (tmp_path / "backup.zip").read_bytes() == before
    export_workspace(workspace, tmp_path / "backup.zip", overwrite=True)
    with pytest.raises(InputError, match="lies in the workspace"):
        export_workspace(workspace, workspace.folder / "backup.zip")
    with pytest.raises(InputError, match=r"must be named \.zip"):
        export_workspace(workspace, tmp_path / "backup.tar")


def stop(done: int, total: int) -> None:
    if done > 1 << 20:
        raise KeyboardInterrupt


def test_an_interruption_leaves_nothing(workspace: Workspace, tmp_path: Path) -> None:
    export_workspace(workspace, tmp_path / "backup.zip")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        export_workspace(workspace, tmp_path / "other.zip", progress=stop)
    with pytest.raises(KeyboardInterrupt):
        import_workspace(tmp_path / "backup.zip", tmp_path / "moved", progress=stop)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyboardInterrupt):
        import_workspace(tmp_path / "backup.zip", tmp_path / "empty", progress=stop)
    assert list((tmp_path / "empty").iterdir()) == []
    import_workspace(tmp_path / "backup.zip", tmp_path / "empty")


def test_what_others_do_meanwhile_is_wholly_in_or_wholly_out(workspace: Workspace, tmp_path: Path) -> None:
    """While the weights are copied, an edit is kept as a draft, another is accepted and a version rolled back."""
    acts: list[Callable[[], object]] = [
        lambda: workspace.rollback("brain", "reader", "meanwhile"),
        lambda: add_case(workspace, "case2", b"other pixels"),
        lambda: remove_draft(workspace, "brain", "d1"),
    ]

    def act(done: int, total: int) -> None:
        if acts:
            acts.pop()()

    export_workspace(workspace, tmp_path / "backup.zip", progress=act)
    moved = import_workspace(tmp_path / "backup.zip", tmp_path / "moved").workspace
    assert verify(moved).problems == ()
    assert [case.id for case in moved.cases()] == ["case1", "case2"]
    assert moved.current_version("brain") is None
    assert not (moved.folder / "drafts").exists()


def test_one_export_at_a_time(workspace: Workspace, tmp_path: Path) -> None:
    held = "import sys, time; from MedSeqFTLib.workspace.workspace import Workspace\n"
    held += "from MedSeqFTLib.workspace.archive import archive_lock\n"
    held += "with archive_lock(Workspace.open(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    process = python(held, workspace.folder)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(WorkspaceError, match="exports or prunes"):
        export_workspace(workspace, tmp_path / "backup.zip")
    process.kill()
    process.communicate()
    with archive_lock(workspace):
        pass
    export_workspace(workspace, tmp_path / "backup.zip")


EXPORTING = """
import sys, time
from pathlib import Path
from MedSeqFTLib.workspace.archive import export_workspace
from MedSeqFTLib.workspace.workspace import Workspace

def stay(done, total):
    print("exporting", flush=True)
    time.sleep(60)

export_workspace(Workspace.open(sys.argv[1]), Path(sys.argv[2]), progress=stay)
"""


def test_what_a_killed_export_left_is_removed_by_the_next_one(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "backups"
    out.mkdir()
    process = python(EXPORTING, workspace.folder, out / "killed.zip")
    assert process.stdout is not None and process.stdout.readline() == "exporting\n"
    unfinished = tree(out)
    (tmp_path / "second").mkdir()
    export_workspace(a_workspace(tmp_path / "second"), out / "of another workspace.zip")
    assert unfinished.items() < tree(out).items()  # its export still runs
    process.kill()
    process.communicate()
    export_workspace(workspace, out / "whole.zip")
    assert list(tree(out)) == ["of another workspace.zip", "whole.zip"]


IMPORTING = """
import sys, time
from MedSeqFTLib.workspace.unpacking import import_workspace

def stay(done, total):
    print("importing", flush=True)
    time.sleep(60)

import_workspace(sys.argv[1], sys.argv[2], progress=stay)
"""


def test_what_a_killed_import_left_is_removed_by_the_next_one(good: Path, tmp_path: Path) -> None:
    process = python(IMPORTING, good, tmp_path / "killed")
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    unfinished = tree(tmp_path)
    assert unfinished and "killed" not in unfinished
    import_workspace(good, tmp_path / "beside it")
    assert unfinished.items() < tree(tmp_path).items()  # it still goes on
    process.kill()
    process.communicate()
    import_workspace(good, tmp_path / "killed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside it", "killed"]


def test_damage_is_told_and_not_taken_without_a_word(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.folder / "cases/brain/case1/image.nrrd").write_bytes(b"rotten")
    exported = export_workspace(workspace, tmp_path / "backup.zip")
    assert ["case brain/case1: image.nrrd is damaged" in problem for problem in exported.manifest.problems] == [True]
    with pytest.raises(WorkspaceError, match=r"image.nrrd is damaged.*--accept-damaged"):
        import_workspace(exported.path, tmp_path / "moved")
    assert not (tmp_path / "moved").exists()
    assert len(import_workspace(exported.path, tmp_path / "moved", accept_damaged=True).problems) == 1


def test_a_link_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.folder / "cases" / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(WorkspaceError, match="is a link"):
        export_workspace(workspace, tmp_path / "backup.zip")


def test_too_little_room_is_said_before(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_workspace(workspace, tmp_path / "backup.zip")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type(usage)(usage.total, usage.used, 1 << 20))
    with pytest.raises(StorageError, match="Free some space"):
        export_workspace(workspace, tmp_path / "other.zip")
    with pytest.raises(StorageError, match="Free some space"):
        import_workspace(tmp_path / "backup.zip", tmp_path / "moved")
    assert not (tmp_path / "other.zip").exists() and not (tmp_path / "moved").exists()


def test_an_occupied_folder_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    export_workspace(workspace, tmp_path / "backup.zip")
    before = tree(workspace.folder)
    with pytest.raises(InputError, match="not an empty folder"):
        import_workspace(tmp_path / "backup.zip", workspace.folder)
    assert tree(workspace.folder) == before


# --- archives that somebody else made ---


def rewritten(source: Path, target: Path, change: Callable[[zipfile.ZipInfo, bytes], tuple[Any, bytes] | None]) -> Path:
    """A copy of an archive in which `change` gives each entry anew; the manifest keeps up with names and contents."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            if changed := change(info, old.read(info)):
                new.writestr(*changed)
    return target


def renamed(name: str) -> Callable[[zipfile.ZipInfo, bytes], tuple[Any, bytes] | None]:
    """The user's notes get another name, in the manifest, too."""
    member = CONTENTS + "notes of mine.txt"

    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[Any, bytes]:
        if info.filename == MANIFEST:
            manifest = json.loads(data)
            manifest["files"][name] = manifest["files"].pop("notes of mine.txt")
            return MANIFEST, json.dumps(manifest).encode()
        return (CONTENTS + name if info.filename == member else info), data

    return change


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.txt", "/etc/outside.txt", "a/../../outside", "a//b", "", ".", "C:\\outside", "a\\..\\b", "c:x"),
        *(
            "nul",
            "COM1.txt",
            "a/aux.json",
            "line\nbreak",
            "bell\x07",
            "dot.",
            "blank ",
            "tasks/Brain.json",
            "AUDIT.jsonl",
        ),
        *("Tasks/x.json", "workspace.json/x", ".tmp-x", "x" * 300, "a/" * 30 + "b", "\u202egnp.exe"),
    ],
)
def test_no_name_leaves_the_folder_or_hides(good: Path, tmp_path: Path, name: str) -> None:
    bad = rewritten(good, tmp_path / "bad.zip", renamed(name))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError):
        import_workspace(bad, tmp_path / "moved")
    assert sorted(tmp_path.iterdir()) == before


def a_link(info: zipfile.ZipInfo, data: bytes) -> tuple[Any, bytes]:
    if info.filename.endswith("notes of mine.txt"):
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, data


def a_device(info: zipfile.ZipInfo, data: bytes) -> tuple[Any, bytes]:
    if info.filename.endswith("notes of mine.txt"):
        info.external_attr = (stat.S_IFBLK | 0o600) << 16
    return info, data


def a_swapped_file(info: zipfile.ZipInfo, data: bytes) -> tuple[Any, bytes]:
    return info, data.replace(b"keep", b"else") if info.filename != MANIFEST else data


def one_missing(info: zipfile.ZipInfo, data: bytes) -> tuple[Any, bytes] | None:
    return None if info.filename.endswith("notes of mine.txt") else (info, data)


def a_bomb(info: zipfile.ZipInfo, data: bytes) -> tuple[Any, bytes]:
    """The notes claim 2 PB, which no disk has."""
    if info.filename == MANIFEST:
        manifest = json.loads(data)
        manifest["files"]["notes of mine.txt"]["size"] = 1 << 51
        data = json.dumps(manifest).encode()
    return info, data


def no_manifest(info: zipfile.ZipInfo, data: bytes) -> tuple[Any, bytes] | None:
    return None if info.filename == MANIFEST else (info, data)


def broken_manifest(info: zipfile.ZipInfo, data: bytes) -> tuple[Any, bytes]:
    return info, data[:50] if info.filename == MANIFEST else data


def newer(info: zipfile.ZipInfo, data: bytes) -> tuple[Any, bytes]:
    return info, data.replace(b'"schema_version": 1', b'"schema_version": 9') if info.filename == MANIFEST else data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (a_link, "no ordinary file"),
        (a_device, "no ordinary file"),
        (a_swapped_file, "another SHA-256"),
        (one_missing, "does not hold what"),
        (a_bomb, "which cannot be"),
        (no_manifest, "has no manifest.json"),
        (broken_manifest, "manifest.json cannot be used"),
        (newer, "newer MedSeqFT"),
    ],
)
def test_what_is_not_the_workspace_that_was_exported_is_refused(
    good: Path, tmp_path: Path, change: Callable[..., Any], message: str
) -> None:
    bad = rewritten(good, tmp_path / "bad.zip", change)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MedSeqFTError, match=message):
        import_workspace(bad, tmp_path / "moved")
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_twice_is_refused(good: Path, tmp_path: Path) -> None:
    shutil.copy(good, tmp_path / "bad.zip")
    with zipfile.ZipFile(tmp_path / "bad.zip", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(CONTENTS + "notes of mine.txt", b"keep")
    with pytest.raises(InputError, match="does not hold what"):
        import_workspace(tmp_path / "bad.zip", tmp_path / "moved")


def test_every_flipped_or_missing_byte_is_found(workspace: Workspace, tmp_path: Path) -> None:
    """Bytes of every part of the file, one at a time, and every tenth of its length."""
    shutil.rmtree(workspace.folder / "models")  # a small archive, in which much of the file is structure
    good = export_workspace(workspace, tmp_path / "good.zip").path.read_bytes()
    bad, size = tmp_path / "bad.zip", len(good)
    places = range(0, size, size // 60)
    damaged = [good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :] for at in places]
    survived = 0
    for content in [*damaged, *(good[: size * part // 10] for part in range(10))]:
        bad.write_bytes(content)
        target = tmp_path / "moved"
        try:
            imported = import_workspace(bad, target, accept_damaged=True)
        except MedSeqFTError:
            assert not target.exists()
            continue
        survived += 1  # a date, an attribute or another byte that says nothing about the content
        shutil.rmtree(imported.workspace.folder)
    assert survived < len(places) / 2


def test_the_commands(workspace: Workspace, tmp_path: Path) -> None:
    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["workspace", *map(str, arguments)])

    result = run("export", tmp_path / "b.zip", "--workspace", workspace.folder)
    assert result.exit_code == 0, result.output
    assert "Left out: cache (1 files, 1000 bytes)." in result.stdout
    result = run("import", tmp_path / "b.zip", tmp_path / "moved", "--json")
    assert json.loads(result.stdout)["problems"] == []
    result = run("verify", "--workspace", tmp_path / "moved")
    assert (result.exit_code, "no problems" in result.stdout) == (0, True)
    (tmp_path / "moved/models/M1/backbone.safetensors").write_bytes(b"rotten")
    (tmp_path / "moved/cases/brain/case1/segmentation.seg.nrrd").unlink()
    result = run("verify", "--workspace", tmp_path / "moved")
    assert result.exit_code == 1
    assert "version M1: backbone.safetensors is damaged" in result.stdout
    assert "case brain/case1: segmentation.seg.nrrd is missing" in result.stdout
    result = run("export", tmp_path / "c.zip", "--workspace", tmp_path / "moved")
    assert (result.exit_code, "2 problems in all" in result.stderr) == (1, True)
