"""Writing into folders that no workspace guards: what killed processes left goes, what others write or own stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from learning_samples import ball_workspace
from workspace_samples import python, tree

from MedSeqFTLib.errors import StorageError
from MedSeqFTLib.imaging.exporting import export, exported_files
from MedSeqFTLib.workspace import outside
from MedSeqFTLib.workspace.files import atomic_path, remove_leftovers
from MedSeqFTLib.workspace.outside import staging_in

WRITING = """
import sys, time
from pathlib import Path
from MedSeqFTLib.workspace.outside import staging_in

with staging_in(Path(sys.argv[1])) as staging:
    (staging / "half").write_bytes(b"half a file")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    process = python(WRITING, tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    unfinished = tree(tmp_path)
    assert len(unfinished) == 3  # a lock, a folder, a file in it
    with staging_in(tmp_path):
        pass
    remove_leftovers(tmp_path)  # as whoever holds the lock of a workspace does, of which this is the folder
    assert tree(tmp_path) == unfinished
    process.kill()
    process.communicate()
    with staging_in(tmp_path) as staging:
        assert {path.name.removesuffix(".lock") for path in tmp_path.iterdir()} == {staging.name}
    assert tree(tmp_path) == {}


EXPORTING = """
import sys, time
from pathlib import Path
from MedSeqFTLib.imaging import exporting
from MedSeqFTLib.workspace.workspace import Workspace

def stay(image, path, staging):
    (staging / "half.labels.nrrd").write_bytes(b"half a label map")
    print("exporting", flush=True)
    time.sleep(60)

exporting.write_label_map = stay
exporting.export(Workspace.open(sys.argv[1]), "balls", "case0", Path(sys.argv[2]))
"""


def test_what_a_killed_export_of_segmentations_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    workspace, out = ball_workspace(tmp_path, train=2, validation=0), tmp_path / "out"
    process = python(EXPORTING, workspace.folder, out)
    assert process.stdout is not None and process.stdout.readline() == "exporting\n"
    half = {name: sha256 for name, sha256 in tree(out).items() if "out-" in name}
    assert any(name.endswith("half.labels.nrrd") for name in half)
    export(workspace, "balls", "case1", out)
    assert half.items() < tree(out).items()  # the other export still runs
    process.kill()
    process.communicate()
    files = export(workspace, "balls", "case0", out, overwrite=True)
    assert {out / name for name in tree(out)} == {*files, *exported_files("case1", out)}


def test_a_folder_whose_lock_file_a_power_cut_took_goes(tmp_path: Path) -> None:
    (tmp_path / ".tmp-out-0123456789ab" / "half").mkdir(parents=True)
    with staging_in(tmp_path):
        pass
    assert tree(tmp_path) == {}


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    for name in (".tmp-1234", ".tmp-out-x", ".tmp-out-0123456789abc", ".tmp-out-0123456789ab.zip", "out", "notes.lock"):
        (tmp_path / name).write_bytes(b"somebody's")
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt), staging_in(tmp_path) as staging:
        (staging / "half").write_bytes(b"half a file")
        raise KeyboardInterrupt
    assert tree(tmp_path) == before
    with staging_in(tmp_path / "new" / "folder") as staging, atomic_path(tmp_path / "new" / "a.json", staging) as path:
        path.write_bytes(b"whole")
    assert (tmp_path / "new" / "a.json").read_bytes() == b"whole"


def test_a_folder_that_cannot_be_listed_can_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mode that an administrator's tests would not notice."""
    listed = os.scandir

    def refuse(folder: object) -> object:
        if folder == tmp_path:
            raise PermissionError(errno.EACCES, "refused")
        return listed(folder)  # type: ignore[call-overload]

    monkeypatch.setattr(outside.os, "scandir", refuse)
    with staging_in(tmp_path) as staging, atomic_path(tmp_path / "a", staging) as path:
        path.write_bytes(b"whole")
    monkeypatch.undo()
    assert list(tree(tmp_path)) == ["a"]


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSPC])
def test_where_nobody_can_lock_one_can_still_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """A disk that is full is another thing: writing there unguarded might end with another process clearing it."""

    def refuse(self: object, timeout: float) -> None:
        raise OSError(reason, "refused")

    monkeypatch.setattr(outside.FileLock, "acquire", refuse)
    (tmp_path / ".tmp-out-0123456789ab").mkdir()
    if reason == errno.ENOSPC:
        with pytest.raises(StorageError, match="disk is full"), staging_in(tmp_path):
            pass
    else:
        with staging_in(tmp_path) as staging, atomic_path(tmp_path / "a", staging) as path:
            path.write_bytes(b"whole")
        assert (tmp_path / "a").read_bytes() == b"whole"
    assert (tmp_path / ".tmp-out-0123456789ab").exists()
