"""What of a patient gets into a workspace: nothing of headers, and into an anonymous one nothing of names and paths."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.acceptance import accept
from MedSeqFTLib.imaging.decathlon import import_cases, read_data_set, split
from MedSeqFTLib.imaging.exporting import export
from MedSeqFTLib.imaging.segmentations import write_seg_nrrd
from MedSeqFTLib.workspace.anonymity import name_for, new_name
from MedSeqFTLib.workspace.archive import export_workspace
from MedSeqFTLib.workspace.files import read_json
from MedSeqFTLib.workspace.schema import Label, Modality, Percentile, Role, Task, WorkspaceInfo
from MedSeqFTLib.workspace.unpacking import import_workspace
from MedSeqFTLib.workspace.workspace import Workspace

LABELS = (Label(value=1, name="grey matter", color=(1, 0, 0)),)
#: What scanners and archives write into DICOM files about a patient, and words of it to look for.
TAGS = {
    "0008|0012": "20260401", "0008|0050": "ACC4711", "0008|0080": "ZEBRA CLINIC", "0008|0090": "HOUSE^GREGORY",
    "0008|1010": "STATION9", "0008|1030": "STUDYWORDS", "0008|103e": "SERIESWORDS", "0008|1070": "OPERATOR^OLGA",
    "0010|0010": "QUIXOTE^DON", "0010|0020": "PID0815", "0010|0030": "19470331", "0010|1000": "OTHERID77",
    "0010|1040": "WINDMILL LANE", "0010|21b0": "HISTORYWORDS", "0010|4000": "COMMENTWORDS", "0018|1000": "SERIAL33",
    "0020|000d": "1.2.840.777.1", "0020|000e": "1.2.840.777.2", "0020|0052": "1.2.840.777.3", "0032|1032": "ASKER^ANN",
}  # fmt: skip
WORDS = (
    "ACC4711 ZEBRA HOUSE GREGORY STATION9 STUDYWORDS SERIESWORDS OLGA QUIXOTE PID0815 19470331 20260401 OTHERID77 "
    "WINDMILL HISTORYWORDS COMMENTWORDS SERIAL33 1.2.840.777 ASKER"
).split()
#: The only fields in the header of a stored image.
GRID = {"type", "dimension", "space", "sizes", "space directions", "kinds", "endian", "encoding", "space origin"}


def task() -> Task:
    return Task(name="brain", modality=Modality.MR, labels=LABELS, intensity=Percentile())


def made(folder: Path, anonymous: bool) -> Workspace:
    workspace = Workspace.create(folder / "workspace", anonymous=anonymous)
    workspace.add_task(task())
    return workspace


def array(seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 900, (5, 8, 9), dtype=np.int16)


def dicom(folder: Path, seed: int = 0) -> Path:
    """A series whose files are full of the patient."""
    folder.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z, plane in enumerate(array(seed)):
        image = sitk.GetImageFromArray(plane)
        place = {"0008|0060": "MR", "0008|0018": f"1.2.840.777.9.{z}", "0020|0013": str(z), "0018|0050": "2"}
        place |= {"0020|0032": f"0\\0\\{2 * z}", "0020|0037": "1\\0\\0\\0\\1\\0"}
        for tag, value in (TAGS | place).items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"quixote-{z}.dcm"))
        writer.Execute(image)
    return folder


def label_map(path: Path, **metadata: str) -> Path:
    """A segmentation on the series' grid."""
    drawn = np.zeros((5, 8, 9), np.uint8)
    drawn[1:3, 2:5, 3:6] = 1
    image = sitk.GetImageFromArray(drawn)
    image.SetSpacing((1, 1, 2))
    for key, value in metadata.items():
        image.SetMetaData(key, value)
    if path.name.endswith(".seg.nrrd"):
        write_seg_nrrd(image, LABELS, path)
        raw = path.read_bytes()  # as another program may have written it
        extra = "".join(f"{key}:={value}\n" for key, value in metadata.items()).encode()
        path.write_bytes(raw.replace(b"\n\n", b"\n" + extra + b"\n", 1))
        assert sitk.ReadImage(str(path)).HasMetaDataKey(next(iter(metadata)))
    else:
        sitk.WriteImage(image, str(path))
    return path


def found(folder: Path, words: list[str]) -> set[str]:
    """The words that some file, or the name of one, says: headers are plain text, voxels are compressed."""
    texts = [path.relative_to(folder).as_posix().encode() for path in folder.rglob("*")]
    texts += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return {word for word in words if any(word.lower().encode() in text.lower() for text in texts)}


def header(path: Path) -> list[str]:
    lines = path.read_bytes().split(b"\n\n", 1)[0].decode().splitlines()[1:]
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("anonymous", [False, True])
def test_of_dicom_only_voxels_and_grid_are_kept(tmp_path: Path, anonymous: bool) -> None:
    workspace = made(tmp_path, anonymous)
    series = dicom(tmp_path / "in" / "series")
    assert found(tmp_path / "in", WORDS) == set(WORDS)  # they are there to be found
    segmentation = label_map(tmp_path / "in" / "drawn.seg.nrrd", PatientName="QUIXOTE")
    case = accept(workspace, workspace.task("brain"), series, segmentation, Role.TRAIN, by="reader")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(workspace.image_path(case)))), array())
    files = export(workspace, "brain", case.id, tmp_path / "out")
    assert found(workspace.folder, WORDS) | found(tmp_path / "out", WORDS) == set()
    for path in (workspace.image_path(case), files[1]):
        assert {line.split(":")[0] for line in header(path)} <= GRID
    for path in (workspace.segmentation_path(case), files[0]):
        fields = {line.split(":")[0] for line in header(path)} - GRID
        assert all(re.fullmatch(r"Segment(ation_|0_)\w+", field) for field in fields), fields


def nifti_with_words(path: Path) -> Path:
    """Words in every text field of a NIfTI header: data_type, db_name, descrip, aux_file, intent_name; an extension."""
    image = sitk.GetImageFromArray(array())
    image.SetSpacing((1, 1, 2))
    sitk.WriteImage(image, str(path))
    raw = bytearray(path.read_bytes())
    for offset, size in ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16)):
        raw[offset : offset + size] = b"QUIXOTE".ljust(size, b"\0")
    extension = struct.pack("<ii", 32, 6) + b"QUIXOTE".ljust(24, b"\0")
    raw[108:112] = struct.pack("<f", 352 + 32)
    path.write_bytes(bytes(raw[:348]) + b"\1\0\0\0" + extension + bytes(raw[352:]))
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_of_other_files_only_voxels_and_grid_are_kept(tmp_path: Path, suffix: str) -> None:
    workspace = made(tmp_path, False)
    path = tmp_path / f"image{suffix}"
    if suffix == ".nii":
        nifti_with_words(path)
    else:
        image = sitk.GetImageFromArray(array())
        image.SetSpacing((1, 1, 2))
        image.SetMetaData("PatientName", "QUIXOTE")
        sitk.WriteImage(image, str(path))
    assert b"QUIXOTE" in path.read_bytes()
    case = accept(workspace, workspace.task("brain"), path, label_map(tmp_path / "labels.nrrd"), Role.TRAIN)
    assert found(workspace.folder, ["QUIXOTE"]) == set()
    assert {line.split(":")[0] for line in header(workspace.image_path(case))} <= GRID


NAMES = ["Quixote", "Don", "Dulcinea", "knights", "windmill"]


def run(workspace: Path, *arguments: object) -> Any:
    """Nothing that is told on the screen is looked at: it goes to whoever typed the name."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--workspace", str(workspace)])
    assert result.exit_code == 0, result.output
    return result


def test_an_anonymous_workspace_keeps_no_name_of_a_file_or_folder(tmp_path: Path) -> None:
    folder = tmp_path / "ws"
    run(folder, "init", folder, "--anonymous")
    run(folder, "task", "add", "brain", "--modality", "mr", "--label", "1:grey matter")
    series = dicom(tmp_path / "knights" / "Don Quixote")
    drawn = label_map(tmp_path / "knights" / "Dulcinea windmill.nrrd")
    added = run(folder, *"case add brain --role train --json --image".split(), series, "--segmentation", drawn)
    case = json.loads(added.stdout)
    assert re.fullmatch(r"scan-[0-9a-f]{10}", case["id"])
    assert (case["source_image"], case["source_segmentation"]) == ("", "")
    run(folder, "export", "brain", case["id"], "--folder", tmp_path / "out")
    run(folder, "report")
    assert {path.name.split(".")[0] for path in (tmp_path / "out").iterdir()} == {case["id"]}
    archive = export_workspace(Workspace.open(folder), tmp_path / "a.zip", jobs=True).path
    moved = import_workspace(archive, tmp_path / "moved").workspace
    assert (folder / "report.html").is_file() and moved.info.anonymous
    with zipfile.ZipFile(archive) as opened:
        assert "Quixote" not in opened.read("manifest.json").decode()
    assert found(folder, NAMES) | found(tmp_path / "out", NAMES) | found(moved.folder, NAMES) == set()
    shown = run(folder, "case", "show", "brain", case["id"])
    assert "name not kept" in shown.stdout


def test_a_name_that_a_person_gives_is_refused_in_an_anonymous_workspace(tmp_path: Path) -> None:
    workspace = made(tmp_path, True)
    series, drawn = dicom(tmp_path / "series"), label_map(tmp_path / "drawn.nrrd")
    with pytest.raises(InputError, match=r"anonymous.*'Quixote'"):
        accept(workspace, workspace.task("brain"), series, drawn, Role.TRAIN, case_id="Quixote")
    assert found(workspace.folder, NAMES) == set()


def data_set(folder: Path) -> Path:
    """Three scans in the Decathlon's layout, the third of which is the first one again."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    training = []
    for name, seed in (("Quixote", 0), ("Dulcinea", 1), ("windmill", 0)):
        image = sitk.GetImageFromArray(array(seed))
        image.SetSpacing((1, 1, 2))
        sitk.WriteImage(image, str(folder / "imagesTr" / f"{name}.nii.gz"))
        label_map(folder / "labelsTr" / f"{name}.nii.gz")
        training.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    document = {"name": "brain", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "grey matter"}}
    (folder / "dataset.json").write_text(json.dumps({**document, "training": training}), encoding="utf-8")
    return folder


def test_an_anonymous_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Which scans are there already is told by their voxels, for their names are not known."""
    workspace = Workspace.create(tmp_path / "workspace", anonymous=True)
    source = read_data_set(data_set(tmp_path / "data"))
    chosen = [(pair, Role.TRAIN) for pair in source.pairs]
    first = next(iter(import_cases(workspace, source.task, chosen)))
    outcomes = [imported.outcome for imported in import_cases(workspace, source.task, chosen)]
    assert (first.outcome, outcomes) == ("added", ["known", "added", "known"])
    fresh = Workspace.create(tmp_path / "other", anonymous=True)
    outcomes = [imported.outcome for imported in import_cases(fresh, source.task, chosen)]
    assert outcomes == ["added", "added", "twice"]
    assert found(workspace.folder, NAMES) == set()
    with pytest.raises(InputError, match="a role never changes"):
        list(import_cases(workspace, source.task, [(source.pairs[0], Role.VALIDATION)]))
    assert split(source.pairs, 2, 1, 0)  # the draw goes by the names of files, and keeps none


def test_a_pretraining_that_would_keep_paths_is_refused(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "workspace", anonymous=True)
    image = tmp_path / "Quixote.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(array()), str(image))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('steps = 1\n[[images]]\nmodality = "MR"\nfiles = ["Quixote.nrrd"]\n', encoding="utf-8")
    arguments = ["pretrain", str(recipe), "--data", str(tmp_path), "--workspace", str(workspace.folder)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert "This workspace is anonymous" in result.stderr
    assert found(workspace.folder, NAMES) == set()


def test_old_workspaces_are_not_anonymous(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "workspace", anonymous=True)
    path = workspace.folder / "workspace.json"
    assert Workspace.open(workspace.folder).info.anonymous
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["anonymous"], document["checksum"]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert read_json(path, WorkspaceInfo).anonymous is False
    assert name_for(Workspace.open(workspace.folder), None, "Don Quixote", "case") == "Don-Quixote"


def test_random_names_differ_and_can_be_folders() -> None:
    names = {new_name() for _ in range(2000)}
    assert len(names) == 2000
    assert all(re.fullmatch(r"scan-[0-9a-f]{10}", name) for name in names)
