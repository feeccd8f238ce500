"""Files are wholly there or not at all; names stay inside the workspace."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from workspace_samples import a_task, python, tree

from MedSeqFTLib.errors import InputError, MedSeqFTError, StorageError, WorkspaceError
from MedSeqFTLib.workspace import files
from MedSeqFTLib.workspace.files import (
    atomic_path,
    check_sha256,
    new_folder_atomically,
    read_json,
    remove_leftovers,
    sha256_of,
    write_bytes_atomically,
    write_json,
)
from MedSeqFTLib.workspace.names import checked_name, name_from
from MedSeqFTLib.workspace.networks import ResidualUNetDescription
from MedSeqFTLib.workspace.schema import (
    CaseScore,
    ModelVersion,
    SelectionScore,
    Task,
    TaskScores,
)


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_check_sha256_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abd")
    with pytest.raises(WorkspaceError, match="abc is damaged"):
        check_sha256(tmp_path / "abc", "ba7816bf")
    with pytest.raises(WorkspaceError, match="Cannot read .*gone"):
        check_sha256(tmp_path / "gone", "ba7816bf")


def test_write_replaces_the_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_bytes(b"old and longer")
    write_bytes_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_atomic_path_keeps_suffixes_and_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x.seg.nrrd") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".tmp-")
        assert temporary.name.endswith(".seg.nrrd")
        temporary.write_bytes(b"data")
    assert (tmp_path / "x.seg.nrrd").read_bytes() == b"data"


def test_error_in_the_body_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="changed my mind"), atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        raise InputError("changed my mind")
    assert tree(tmp_path) == before


def test_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"a\.bin"), atomic_path(tmp_path / "a.bin"):
        pass
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("many", [1, 1000])  # on threads; one by one
def test_every_file_and_folder_is_flushed_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(files, "_MANY", many)
    flushed: list[tuple[str, Path]] = []
    for name in ("flush_to_disk", "flush_folder"):
        flush = getattr(files, name)
        monkeypatch.setattr(
            files, name, lambda path, name=name, flush=flush: (flushed.append((name, path)), flush(path))
        )
    with new_folder_atomically(tmp_path / "M0") as folder:
        for number in range(20):
            (folder / f"{number}").mkdir()
            (folder / f"{number}" / "file").write_bytes(b"x")
    assert {path for name, path in flushed if name == "flush_to_disk"} == {folder / f"{n}" / "file" for n in range(20)}
    assert {path for name, path in flushed if name == "flush_folder"} == {
        *(folder / f"{n}" for n in range(20)),
        *(folder, tmp_path),
    }


def test_a_file_of_many_that_cannot_be_flushed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MANY", 1)

    def full(path: Path) -> None:
        if path.name == "7":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "flush_to_disk", full)
    with pytest.raises(StorageError, match="disk is full"), new_folder_atomically(tmp_path / "M0") as folder:
        for number in range(20):
            (folder / f"{number}").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_new_folder_appears_at_once(tmp_path: Path) -> None:
    target = tmp_path / "models" / "M0"
    with new_folder_atomically(target) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_bytes(b"1")
        assert not target.exists()
    assert tree(tmp_path / "models") == {
        "M0": "folder",
        "M0/deep": "folder",
        "M0/deep/file": sha256_of(target / "deep/file"),
    }


def test_new_folder_is_removed_on_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder_atomically(tmp_path / "M0") as folder:
        (folder / "file").write_bytes(b"1")
        raise KeyboardInterrupt
    assert tree(tmp_path) == {}


def test_new_folder_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "M0").mkdir()
    (tmp_path / "M0" / "file").write_bytes(b"first")
    before = tree(tmp_path)
    with pytest.raises(WorkspaceError, match="exists already"), new_folder_atomically(tmp_path / "M0") as folder:
        (folder / "file").write_bytes(b"second")
    assert tree(tmp_path) == before


def test_the_names_of_new_folders_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing the last of them would not do: after a power cut the ones that lead to it might be gone."""
    flushed: list[Path] = []
    monkeypatch.setattr(files, "flush_folder", flushed.append)
    with new_folder_atomically(tmp_path / "a" / "b" / "c"):
        pass
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(flushed)
    flushed.clear()
    for expected in ([tmp_path], []):
        with (tmp_path / "lines").open("ab", buffering=0) as file:
            files.append_line(file, tmp_path / "lines", b"line\n", flush=True)
        assert flushed == expected
        flushed.clear()


def test_a_document_that_is_no_longer_what_was_written_is_damaged(tmp_path: Path) -> None:
    """A flipped bit may leave valid JSON, with another number in it."""
    path, task = tmp_path / "brain.json", a_task()
    write_json(path, task)
    written = path.read_text(encoding="utf-8")
    path.write_text(written.replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert read_json(path, Task) == task
    path.write_text(written.replace('"value": 2', '"value": 3'), encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"brain\.json is damaged: its text does not fit its checksum"):
        read_json(path, Task)
    path.write_text(task.model_dump_json(), encoding="utf-8")  # of an older program
    assert read_json(path, Task).name == "brain"


def test_remove_leftovers_removes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1").mkdir()
    (tmp_path / ".tmp-1" / "file").write_bytes(b"1")
    (tmp_path / ".tmp-2.json").write_bytes(b"1")
    (tmp_path / "tmp-3").write_bytes(b"1")
    remove_leftovers(tmp_path)
    assert list(tree(tmp_path)) == ["tmp-3"]


def test_no_permission_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(StorageError, match=r"Cannot write .*a\.json"):
        write_bytes_atomically(tmp_path / "file" / "a.json", b"x")


DISK_FULL = """
import resource, sys
from pathlib import Path
from MedSeqFTLib.workspace.files import write_bytes_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_bytes_atomically(Path(sys.argv[1]), b"x" * 1_000_000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file size limits")
def test_disk_full_is_named_and_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    before = tree(tmp_path)
    _, stderr = python(DISK_FULL, target).communicate(timeout=60)
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("MedSeqFTLib.errors.StorageError: Cannot write")
    assert "a.bin" in last and "disk is full" in last
    assert tree(tmp_path) == before


def test_json_round_trip_is_readable_text(tmp_path: Path) -> None:
    path = tmp_path / "brain.json"
    write_json(path, a_task())
    assert read_json(path, Task) == a_task().model_copy(update={"created": read_json(path, Task).created})
    assert b"\r" not in path.read_bytes()
    assert json.loads(path.read_text(encoding="utf-8"))["labels"][0]["name"] == "grey matter"


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "brain.json"
    path.write_bytes(b"\xef\xbb\xbf" + a_task().model_dump_json().encode())
    assert read_json(path, Task).name == "brain"


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "brain.json"
    newer = {**json.loads(a_task().model_dump_json()), "schema_version": 2, "a_new_field": 1}
    path.write_text(json.dumps(newer), encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"brain\.json was written by a newer MedSeqFT \(schema 2"):
        read_json(path, Task)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ('{"name": "brain"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[1]", "schema_version is missing"),
        ('{"schema_version": "1"}', "schema_version is missing"),
        ('{"schema_version": true}', "schema_version is missing"),
        ('{"schema_version": 1}', "field name"),
        ('{"schema_version": 1, "name": "x", "modality": "PET"}', "field modality"),
    ],
)
def test_damaged_json_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "brain.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WorkspaceError) as caught:
        read_json(path, Task)
    assert "brain.json is damaged" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "brain.json"
    path.write_text(json.dumps({**json.loads(a_task().model_dump_json()), "extra": 1}), encoding="utf-8")
    with pytest.raises(WorkspaceError, match="field extra"):
        read_json(path, Task)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_documents_hold_finite_numbers_only(value: float) -> None:
    """JSON would turn a NaN into null, which reads as "not measured"."""
    with pytest.raises(ValidationError, match="finite number"):
        SelectionScore(case="a", loss=value, standard_error=0.0, passes=1, kept=True)
    with pytest.raises(ValidationError, match="finite number"):
        CaseScore(case="a", dice={"grey matter": value})


def test_document_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    damaged = a_task().model_copy(update={"name": "../brain"})  # a copy is not checked
    with pytest.raises(ValidationError, match="name"):
        write_json(tmp_path / "brain.json", damaged)
    assert tree(tmp_path) == {}


def test_scores_of_empty_references_survive(tmp_path: Path) -> None:
    scores = TaskScores(
        task="t",
        reading="per-task",
        version="M1",
        cases=(CaseScore(case="c", dice={"a": None, "b": 0.5}),),
        mean_dice=0.5,
    )
    version = ModelVersion(
        id="M1",
        kind="adapted",
        parent=None,
        task="t",
        job=None,
        network=ResidualUNetDescription(),
        files={},
        scores=(scores,),
    )
    write_json(tmp_path / "version.json", version)
    assert read_json(tmp_path / "version.json", ModelVersion) == version


BAD_NAMES = (
    "", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:", "C:\\x", "x.", ".x", "-x", "x y", "x\n", "x\0", "CON",
    "con.txt", "nul", "COM1", "lpt9.seg", "é", "x\u202e", "\uff0e\uff0e", "a" * 65, "~", "*", "x:y",
)  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_name(name, "case")
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a", "M0", "hippocampus_001", "Task01_Hippocampus", "a.b-c", "a" * 64, "console", "COM10"]
)
def test_good_names_pass(name: str) -> None:
    assert checked_name(name, "case") == name


@given(st.text())
@example("..")
@example("\u2024\u2024/x")
def test_accepted_names_stay_in_their_folder(text: str) -> None:
    try:
        name = checked_name(text, "case")
    except InputError:
        return
    folder = Path("/workspace/cases")
    assert name == text
    assert Path(os.path.normpath(folder / name)).parent == folder


@given(st.text())
def test_name_from_makes_a_good_name_or_refuses(text: str) -> None:
    try:
        name = name_from(text, "case")
    except MedSeqFTError as error:
        assert "\n" not in str(error)
    else:
        assert checked_name(name, "case") == name


@pytest.mark.parametrize(
    ("text", "name"),
    [("hippocampus_001", "hippocampus_001"), ("Patient 7 (left)", "Patient-7-left"), ("Größe", "Groe"), ("..x..", "x")],
)
def test_name_from(text: str, name: str) -> None:
    assert name_from(text, "case") == name


def test_a_torn_line_of_a_long_file_is_cut_off_wherever_the_last_whole_one_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_CHUNK", 16)
    for kept in (b"", b"a\n", b"a line that is longer than many blocks" * 9 + b"\n"):
        for torn in (b"", b"torn", b"torn" * 30):
            (tmp_path / "lines").write_bytes(kept + torn)
            files.remove_torn_line(tmp_path / "lines")
            assert (tmp_path / "lines").read_bytes() == kept
