"""Data sets in nnU-Net's raw layout: read like those of the Decathlon, and refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from imaging_samples import one_line
from typer.testing import CliRunner, Result
from workspace_samples import tree

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.decathlon import Pair, read_data_set
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.workspace.schema import Modality, Percentile, Window
from MedSeqFTLib.workspace.workspace import Workspace

LISTED = {"images": ["scans/first.nii.gz"], "label": "references/first.nii.gz"}


def write_case(image: Path, label_map: Path, seed: int) -> None:
    """A random scan and a label map in which the values 1 and 2 have a plane of 20 voxels each."""
    pixels = np.random.default_rng(seed).normal(100, 20, (6, 5, 4)).astype(np.float32)
    labels = np.zeros(pixels.shape, np.uint8)
    labels[1], labels[2] = 1, 2
    for path, voxels in ((image, pixels), (label_map, labels)):
        written = sitk.GetImageFromArray(voxels)
        written.SetSpacing((0.9, 1.1, 2.0))
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(written, str(path))


def nnunet(folder: Path, count: int = 2, ending: str = ".nii.gz", **changes: Any) -> Path:
    """A data set of `count` cases; a change of None leaves the field out of dataset.json."""
    for number in range(count):
        name = f"liver_{number:03}"
        write_case(folder / "imagesTr" / f"{name}_0000{ending}", folder / "labelsTr" / f"{name}{ending}", seed=number)
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "tumour": 2, "liver": 1},
        "numTraining": count,
        "file_ending": ending,
        **changes,
    }
    folder.mkdir(exist_ok=True)
    present = {field: value for field, value in described.items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(present), encoding="utf-8")
    return folder


def refused(folder: Path, *parts: str) -> None:
    one_line(InputError, lambda: read_data_set(folder), *parts)


def run(workspace: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--workspace", str(workspace)])


# What is read


def test_cases_are_found_by_their_names(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "Dataset003_Liver")
    read = read_data_set(folder)
    assert (read.task.name, read.task.modality, read.task.intensity) == ("Dataset003_Liver", Modality.CT, Window())
    assert [(label.value, label.name) for label in read.task.labels] == [(1, "liver"), (2, "tumour")]
    assert read.pairs == tuple(
        Pair(name, folder / "imagesTr" / f"{name}_0000.nii.gz", folder / "labelsTr" / f"{name}.nii.gz")
        for name in ("liver_000", "liver_001")
    )


@pytest.mark.parametrize("channel", ["MRI", "T2", " flair "])
def test_mr_channels(tmp_path: Path, channel: str) -> None:
    task = read_data_set(nnunet(tmp_path / "data", channel_names={"0": channel}, name="Heads", description="T")).task
    assert (task.modality, task.intensity, task.name, task.description) == (Modality.MR, Percentile(), "Heads", "T")


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_other_file_endings(tmp_path: Path, ending: str) -> None:
    pairs = read_data_set(nnunet(tmp_path / "data", ending=ending)).pairs
    assert [pair.image.name for pair in pairs] == [f"liver_000_0000{ending}", f"liver_001_0000{ending}"]
    assert read_volume(pairs[0].label_map).GetSize() == (4, 5, 6)


def test_hidden_files_and_other_formats_are_no_cases(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "data")
    for name in ("._liver_000_0000.nii.gz", "notes.txt"):
        (folder / "imagesTr" / name).write_bytes(b"x")
    assert len(read_data_set(folder).pairs) == 2


def test_listed_cases_lie_anywhere_in_the_folder(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "data", 0, numTraining=1, dataset={"case 1": LISTED})
    write_case(folder / "scans" / "first.nii.gz", folder / "references" / "first.nii.gz", seed=0)
    pair = Pair("case-1", folder / "scans" / "first.nii.gz", folder / "references" / "first.nii.gz")
    assert read_data_set(folder).pairs == (pair,)


def test_the_decathlons_layout_is_still_told_apart(tmp_path: Path) -> None:
    """The fields decide, not the names of the files."""
    entry = {"image": "imagesTr/liver_000_0000.nii.gz", "label": "labelsTr/liver_000.nii.gz"}
    fields = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "training": [entry]}
    folder = nnunet(tmp_path / "data", **fields, channel_names=None, file_ending=None)
    assert [pair.case_id for pair in read_data_set(folder).pairs] == ["liver_000_0000"]


def test_the_command_imports_it(tmp_path: Path) -> None:
    workspace, data = tmp_path / "workspace", nnunet(tmp_path / "data", 5)
    assert run(workspace, "init").exit_code == 0
    result = run(workspace, "import-decathlon", data, "--task", "liver", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {
        "task": "liver", "train": 4, "validation": 1, "added": 5, "known": 0, "twice": 0
    }  # fmt: skip
    cases = Workspace.open(workspace).cases("liver")
    assert {case.id for case in cases} == {f"liver_{number:03}" for number in range(5)}
    assert all(case.label_voxels == {"liver": 20, "tumour": 20} for case in cases)


def test_the_command_says_that_it_can(tmp_path: Path) -> None:
    assert "nnU-Net" in CliRunner().invoke(app, ["import-decathlon", "--help"]).stdout


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": None}, "'channel_names' must map \"0\" to CT or MRI, got None"),
        ({"channel_names": ["CT"]}, "'channel_names' must map"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, "2 channels cannot be used; one channel is expected"),
        ({"channel_names": {"0": "noNorm"}}, "'noNorm' is unknown; expected is CT, or for MR one of MR, MRI, T1"),
        ({"channel_names": {"0": 0}}, "'channel_names' 0 is unknown"),
        ({"labels": None}, "'labels' must map names to values"),
        ({"labels": ["background", "liver"]}, "'labels' must map names to values"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "'whole' is a region of the values [1, 2]; region-based"),
        ({"labels": {"background": [0], "liver": 1}}, "'background' is a region"),
        ({"labels": {"0": "background", "1": "liver"}}, "label '0' must have a whole number as its value"),
        ({"labels": {"background": 0, "liver": "1"}}, "label 'liver' must have a whole number as its value, got '1'"),
        ({"labels": {"background": 0, "liver": 1.5}}, "must have a whole number as its value, got 1.5"),
        ({"labels": {"background": 0, "liver": True}}, "must have a whole number as its value, got True"),
        ({"labels": {"background": 0, "liver": 1, "spleen": 1}}, "label value 1 is declared twice"),
        ({"labels": {"liver": 1}}, 'must have "background": 0, got None for the value 0'),
        ({"labels": {"liver": 0, "background": 1}}, "must have \"background\": 0, got 'liver' for the value 0"),
        ({"labels": {"background": 0, "liver": 1, "ignore": 2}}, "'ignore' (voxels that nobody labelled)"),
        ({"labels": {"background": 0}}, "field labels"),
        ({"labels": {"background": 0, "liver": 256}}, "less than or equal to 255"),
        ({"labels": {"background": 0, "liver": -1}}, "greater than or equal to 1"),
        ({"labels": {"background": 0, "liver": 1, "Liver": 2}}, "label names must differ"),
        ({"file_ending": None}, "'file_ending' None cannot be read; one of .nii.gz"),
        ({"file_ending": ".png"}, "'file_ending' '.png' cannot be read"),
        ({"file_ending": "/../../secret.nii.gz"}, "cannot be read"),
        ({"file_ending": ".mha"}, "imagesTr has no image; names such as CASE_0000.mha are expected"),
        ({"numTraining": None}, "'numTraining' is None, but there are 2 training cases"),
        ({"numTraining": 3}, "'numTraining' is 3, but there are 2 training cases"),
        ({"numTraining": "2"}, "'numTraining' is '2'"),
        ({"name": 7}, "'name' must be text"),
    ],
)
def test_refused_descriptions(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = nnunet(tmp_path / "data", **changes)
    refused(folder, str(folder), message)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ([], "'dataset' must map the names of cases"),
        ({}, "'dataset' must map the names of cases"),
        ({"a": "first.nii.gz"}, "case 'a' of 'dataset' must have one file in 'images'"),
        ({"a": {**LISTED, "images": "scans/first.nii.gz"}}, "must have one file in 'images'"),
        (
            {"a": {**LISTED, "images": ["scans/first.nii.gz"] * 2}},
            "must have one file in 'images', one for each channel",
        ),
        ({"a": {**LISTED, "images": [7]}}, "case 'a' of 'dataset' has no file name for 'images'"),
        ({"a": {"images": LISTED["images"]}}, "case 'a' of 'dataset' has no file name for 'label'"),
        ({"a": {**LISTED, "images": ["../secret.nii.gz"]}}, "'../secret.nii.gz' leaves the folder"),
        ({"a": {**LISTED, "label": "/etc/passwd"}}, "'/etc/passwd' leaves the folder"),
        ({"a": {**LISTED, "label": "C:\\secret.nii.gz"}}, "leaves the folder"),
        ({"a": {**LISTED, "label": "scans/gone.nii.gz"}}, "names 'scans/gone.nii.gz', but it is missing"),
        ({"a": LISTED, "A": LISTED}, "two cases would both be named A"),
        ({"???": LISTED}, "case name '' cannot be used"),
        ({"a": LISTED, "b": {**LISTED, "label": ""}}, "case 'b' of 'dataset' has no file name for 'label'"),
    ],
)
def test_refused_lists_of_cases(tmp_path: Path, dataset: dict[str, Any] | list[Any], message: str) -> None:
    (tmp_path / "secret.nii.gz").write_bytes(b"secret")
    folder = nnunet(tmp_path / "data", 0, numTraining=len(dataset), dataset=dataset)
    write_case(folder / "scans" / "first.nii.gz", folder / "references" / "first.nii.gz", seed=0)
    refused(folder, message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("labelsTr/liver_001.nii.gz", None, "liver_001.nii.gz of the case liver_001 is missing"),
        ("imagesTr/liver_001_0000.nii.gz", None, "'numTraining' is 2, but there are 1 training cases"),
        (
            "imagesTr/liver_001_0000.nii.gz",
            "imagesTr/liver_001_0001.nii.gz",
            "another channel of its case; one channel",
        ),
        ("imagesTr/liver_001_0000.nii.gz", "imagesTr/liver_001.nii.gz", "must have a name such as CASE_0000.nii.gz"),
        ("imagesTr/liver_001_0000.nii.gz", "imagesTr/_0000.nii.gz", "must have a name such as CASE_0000.nii.gz"),
        ("imagesTr", "images", "Cannot read"),
        ("labelsTr", "labels", "liver_000.nii.gz of the case liver_000 is missing"),
    ],
)
def test_refused_folders(tmp_path: Path, old: str, new: str | None, message: str) -> None:
    folder = nnunet(tmp_path / "data")
    if new is None:
        (folder / old).unlink()
    else:
        (folder / old).rename(folder / new)
    refused(folder, str(folder), message)


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "data", 1, numTraining=2)
    (folder / "imagesTr" / "other_0000.nii.gz").mkdir()
    refused(folder, "other_0000.nii.gz of the case other is missing, or is no file")


def test_a_refused_data_set_changes_nothing(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    assert run(workspace, "init").exit_code == 0
    data = nnunet(tmp_path / "data", labels={"background": 0, "whole": [1, 2]})
    before = tree(tmp_path)
    result = run(workspace, "import-decathlon", data)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "region-based training is not supported" in result.stderr
    assert tree(tmp_path) == before
