"""The command line: what it says, how it exits, and that a refused request changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner, Result
from workspace_samples import ROOT, a_version, python, tree, weights_folder

from MedSeqFTLib.commands import console
from MedSeqFTLib.commands.app import app
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace

Run = Callable[..., Result]
LABELS = ("--label", "1:grey matter", "--label", "2:white matter:#00ff80")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the workspace tmp_path/workspace, from tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEQFT_WORKSPACE", str(tmp_path / "workspace"))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def workspace(run: Run, tmp_path: Path) -> Workspace:
    """A workspace with the MR task `brain`."""
    assert run("init").exit_code == 0
    assert run("task", "add", "brain", *LABELS, "--modality", "MR").exit_code == 0
    return Workspace.open(tmp_path / "workspace")


def write_pair(folder: Path, name: str = "scan", seed: int = 0, values: tuple[int, ...] = (1, 2)) -> tuple[Path, Path]:
    """A random scan and a label map in which each of `values` has a plane of 20 voxels."""
    array = np.random.default_rng(seed).normal(100, 20, (6, 5, 4)).astype(np.float32)
    segmented = np.zeros(array.shape, np.uint8)
    for plane, value in enumerate(values):
        segmented[plane + 1] = value
    paths = folder / f"{name}.nii.gz", folder / f"{name}_labels.nii.gz"
    for path, voxels in zip(paths, (array, segmented), strict=True):
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((0.9, 1.1, 2.0))
        image.SetOrigin((-10, 20, 30.5))
        sitk.WriteImage(image, str(path))
    return paths


def add(run: Run, image: Path, segmentation: Path, role: str = "train", *more: object) -> Result:
    return run("case", "add", "brain", "--image", image, "--segmentation", segmentation, "--role", role, *more)


def refused(result: Result, *parts: str) -> None:
    """The request was refused with exit code 2 and one line that has all `parts`."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("Error: ")
    for part in parts:
        assert part in result.stderr


# the whole


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from MedSeqFTLib.commands.app import app
app(["--help"], standalone_mode=False)
heavy = {"torch", "SimpleITK", "monai", "peft", "numpy", "matplotlib", "psutil"} & set(sys.modules)
assert not heavy, heavy
"""
    process = python(code)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    for command in ("init", "task", "case", "models", "import-decathlon", "doctor"):
        assert command in stdout


@pytest.mark.parametrize("command", [(), ("task", "add"), ("case", "list"), ("models", "promote"), ("doctor",)])
def test_every_command_explains_itself(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    assert "import-decathlon" in run().stdout


def test_usage_errors_are_one_line(run: Run, workspace: Workspace) -> None:
    refused(run("no-such-command"), "No such command 'no-such-command'")
    refused(run("task"), "Missing command")
    refused(run("task", "add", "x", "--modality", "MR"), "--label")
    refused(run("case", "list", "--role", "test"), "'test' is not one of 'train', 'validation'")
    refused(run("task", "list", "--nope"), "--nope")


def test_bug_is_called_a_bug(run: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "tasks", lambda self: 1 / 0)
    result = run("task", "list")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith("This is a bug in MedSeqFT")
    assert "ZeroDivisionError" in result.stderr


def test_interrupt_is_130(run: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Workspace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Workspace, "tasks", interrupt)
    result = run("task", "list")
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


def test_module_as_a_process(tmp_path: Path) -> None:
    """The error line reaches a real stderr, unwrapped, and a real exit code the shell."""
    folder = tmp_path / ("a-long-folder-name-" * 8)
    command = [sys.executable, "-m", "MedSeqFTLib.commands", "task", "list", "-w", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr == f"Error: {folder} is no MedSeqFT workspace (no workspace.json); make one with: medseqft init\n"
    )


# init


def test_init_takes_a_folder_or_the_workspace(run: Run, tmp_path: Path) -> None:
    assert run("init", "elsewhere").exit_code == 0
    assert run("init").exit_code == 0
    assert Workspace.open(tmp_path / "elsewhere").tasks() == Workspace.open(tmp_path / "workspace").tasks() == []


def test_init_refuses_occupied_folders(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"1")
    before = tree(tmp_path)
    refused(run("init"), "a MedSeqFT workspace already")
    refused(run("init", "."), "not empty")
    refused(run("init", "file.txt"), "is a file")
    assert tree(tmp_path) == before


# task


def test_task_with_codes_colors_and_window(run: Run, workspace: Workspace) -> None:
    code = "7:SCT,10200004,Liver"
    options = ("--modality", "ct", "--window", "-150", "250", "--code", code, "--description", "of the abdomen")
    result = run("task", "add", "liver", "--label", "7:liver:#ff8000", "--label", "9:tumour", *options)
    assert result.exit_code == 0, result.stderr
    task = workspace.task("liver")
    assert [(label.value, label.name) for label in task.labels] == [(7, "liver"), (9, "tumour")]
    assert task.labels[0].color == (1.0, 0.502, 0.0)
    assert task.labels[0].code is not None
    assert task.labels[0].code.meaning == "Liver"
    assert (task.intensity.kind, task.intensity.low, task.intensity.high) == ("window", -150, 250)
    shown = run("task", "show", "liver").stdout
    assert "#ff8000" in shown
    assert "SCT 10200004 Liver" in shown
    assert json.loads(run("task", "show", "liver", "--json").stdout)["labels"][1]["name"] == "tumour"


def test_label_names_may_hold_colons(run: Run, workspace: Workspace) -> None:
    assert run("task", "add", "t", "--label", "1:a: left:#0000ff", "--modality", "MR").exit_code == 0
    assert workspace.task("t").labels[0].name == "a: left"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("brain", *LABELS), "has a task brain already"),
        (("../x", *LABELS), "'../x' cannot be used"),
        (("con", *LABELS), "Windows"),
        (("t", "--label", "grey matter"), "'grey matter' cannot be read"),
        (("t", "--label", "1:"), "cannot be read"),
        (("t", "--label", "1: "), "cannot be read"),
        (("t", "--label", "0:a"), "greater than or equal to 1"),
        (("t", "--label", "256:a"), "less than or equal to 255"),
        (("t", "--label", "1:a", "--label", "1:b"), "label values must differ"),
        (("t", "--label", "1:a", "--label", "2:A"), "label names must differ"),
        (("t", "--label", "1:a\nb"), "cannot be read"),
        (("t", "--label", "1:a\tb"), "one line of printable text"),
        (("t", "--label", "1:a", "--code", "1:SCT"), "'1:SCT' cannot be read"),
        (("t", "--label", "1:a", "--code", "2:SCT,1,x"), "label value 2, which no --label has"),
        (("t", "--label", "1:a", "--code", "1:SCT,1,x", "--code", "1:SCT,2,y"), "twice"),
        (("t", "--label", "1:a", "--window", "0", "100"), "only for CT"),
        (("t", "--label", "1:a", "--modality", "CT", "--window", "100", "0"), "lower bound must lie below"),
        (("t", "--label", "1:a", "--modality", "CT", "--window", "nan", "0"), "finite number"),
        (("t", "--label", "1:a", "--modality", "PET"), "'PET' is not one of"),
    ],
)
def test_refused_task(run: Run, workspace: Workspace, arguments: tuple[str, ...], message: str) -> None:
    before = tree(workspace.folder)
    refused(run("task", "add", "--modality", "MR", *arguments), message)
    assert tree(workspace.folder) == before


# case


def test_case_add_list_show(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    image, segmentation = write_pair(tmp_path)
    result = add(run, image, segmentation, "validation", "--by", "Ada")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "Case scan of task brain is accepted as a validation case.\n"
    assert result.stderr == ""
    case = workspace.case("brain", "scan")
    assert (case.role, case.accepted_by, case.size) == (Role.VALIDATION, "Ada", (4, 5, 6))
    assert case.label_voxels == {"grey matter": 20, "white matter": 20}
    stored = read_volume(workspace.image_path(case))
    assert np.array_equal(sitk.GetArrayFromImage(stored), sitk.GetArrayFromImage(read_volume(image)))
    assert "scan" in run("case", "list").stdout
    assert "No cases" in run("case", "list", "brain", "--role", "train").stdout
    assert "scan.nii.gz" in run("case", "show", "brain", "scan", "--verify").stdout
    shown = json.loads(run("case", "show", "brain", "scan", "--json").stdout)
    assert Path(shown["folder"], "image.nrrd").is_file()
    assert json.loads(run("case", "list", "--json").stdout)[0]["id"] == "scan"


def test_long_names_are_never_cut_in_a_pipe(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    name = "a" * 64
    labels = [f"{value}:structure number {value}" for value in range(1, 12)]
    options = [part for label in labels for part in ("--label", label)]
    assert run("task", "add", name, *options, "--modality", "MR").exit_code == 0
    line = next(line for line in run("task", "list").stdout.splitlines() if line.startswith(name))
    assert "structure number 11" in line


def test_case_from_a_slicer_segmentation_with_overlap(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    """Two layers: grey matter in planes 1 and 2, white matter in plane 2. Its values are not those of the task."""
    image, _ = write_pair(tmp_path)
    layers = np.zeros((6, 5, 4, 2), np.uint8)
    layers[1:3, ..., 0] = 1
    layers[2, ..., 1] = 1
    segmentation = sitk.GetImageFromArray(layers, isVector=True)
    segmentation.CopyInformation(read_volume(image))
    for number, (name, layer) in enumerate([("White Matter", 1), ("grey matter", 0)]):
        for field, value in (("ID", f"s{number}"), ("Name", name), ("Layer", layer), ("LabelValue", 1)):
            segmentation.SetMetaData(f"Segment{number}_{field}", str(value))
    path = tmp_path / "corrected.seg.nrrd"
    sitk.WriteImage(segmentation, str(path))
    result = add(run, image, path, "train", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("Warning: in case scan, segments overlap in 20 voxels")
    case = json.loads(result.stdout)
    assert (case["overlap_voxels"], case["label_voxels"]) == (20, {"grey matter": 20, "white matter": 20})


def test_unlabelled_structure_is_unknown_not_absent(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    assert add(run, *write_pair(tmp_path, values=(2,))).exit_code == 0
    assert workspace.case("brain", "scan").label_voxels == {"white matter": 20}


def test_corrected_proposal_is_measured(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    weights = weights_folder(tmp_path / "weights")
    workspace.publish(a_version("M0", weights, None), weights)
    image, accepted = write_pair(tmp_path)
    _, proposal = write_pair(tmp_path, "proposal", values=(1, 1))  # grey: 20 of 40 right; white: nothing right
    result = add(run, image, accepted, "train", "--proposed-by", "M0", "--proposal", proposal)
    assert result.exit_code == 0, result.stderr
    case = workspace.case("brain", "scan")
    assert (case.proposed_by, case.proposal_dice) == ("M0", pytest.approx((2 * 20 / 60 + 0) / 2))
    assert "0.333" in run("case", "show", "brain", "scan").stdout


def broken_files(folder: Path) -> dict[str, Path]:
    """Images that cannot be accepted, by what is wrong with them."""
    good, _ = write_pair(folder, "good")
    image = sitk.ReadImage(str(good))
    array = sitk.GetArrayFromImage(image)
    holes = array.copy()
    holes[1, 2, 3] = np.nan
    images = {
        "nan": sitk.GetImageFromArray(holes),
        "4d": sitk.JoinSeries([image, image]),
        "rgb": sitk.Compose([image] * 3),
    }
    files = {what: folder / f"{what}.nrrd" for what in (*images, "text", "half", "gone")}
    for what, broken in images.items():
        sitk.WriteImage(broken, str(files[what]))
    files["text"].write_text("This is not an image.", encoding="utf-8")
    files["half"].write_bytes(good.read_bytes()[:150])
    (folder / "empty-folder").mkdir()
    return {**files, "empty-folder": folder / "empty-folder"}


def test_refused_images(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    _, segmentation = write_pair(tmp_path)
    files = broken_files(tmp_path)
    before = tree(tmp_path)
    for path in files.values():
        refused(add(run, path, segmentation), str(path))
    for what in ("text", "half", "gone", "4d"):
        refused(add(run, tmp_path / "scan.nii.gz", files[what]), str(files[what]))
    assert tree(tmp_path) == before


def test_refused_segmentations(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    image, good = write_pair(tmp_path)
    _, unknown = write_pair(tmp_path, "unknown", values=(1, 3))
    _, empty = write_pair(tmp_path, "empty", values=())
    moved = sitk.ReadImage(str(good))
    moved.SetOrigin((-10, 20.4, 30.5))
    sitk.WriteImage(moved, str(tmp_path / "moved.nrrd"))
    before = tree(tmp_path)
    refused(add(run, image, unknown), "unknown_labels.nii.gz", "3")
    refused(add(run, image, empty), "empty_labels.nii.gz", "empty segmentation")
    refused(add(run, image, tmp_path / "moved.nrrd"), "moved.nrrd", "grid")
    refused(add(run, image, image), "scan.nii.gz")
    assert tree(tmp_path) == before


def test_refused_names_roles_and_proposals(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    image, segmentation = write_pair(tmp_path)
    other = write_pair(tmp_path, "other", seed=1)
    assert add(run, image, segmentation, "validation").exit_code == 0
    renamed = tmp_path / "renamed.nrrd"
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(image)), sitk.sitkFloat64), str(renamed))
    before = tree(tmp_path)
    refused(add(run, renamed, segmentation, "train"), "already the validation case scan", "a role never changes")
    refused(add(run, renamed, segmentation, "validation"), "already the validation case scan")
    refused(add(run, *other, "train", "--id", "scan"), "has a case scan already")
    refused(add(run, *other, "train", "--id", "../other"), "cannot be used")
    refused(add(run, *other, "test"), "--role")
    refused(add(run, *other, "train", "--proposal", segmentation), "--proposed-by")
    refused(add(run, *other, "train", "--proposed-by", "M4"), "no model version M4")
    refused(
        run("case", "add", "liver", "--image", image, "--segmentation", segmentation, "--role", "train"),
        "no task 'liver'",
    )
    refused(run("case", "list", "liver"), "no task 'liver'")
    refused(run("case", "show", "brain", "gone"), "no case 'gone'")
    assert tree(tmp_path) == before


def test_changed_file_is_found(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    assert add(run, *write_pair(tmp_path)).exit_code == 0
    workspace.image_path(workspace.case("brain", "scan")).write_bytes(b"flipped")
    refused(run("case", "show", "brain", "scan", "--verify"), "image.nrrd is damaged")


DISK_FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
from MedSeqFTLib.commands.app import app
app(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file size limits")
def test_disk_full_while_accepting(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    image, segmentation = write_pair(tmp_path)
    before = tree(tmp_path)
    arguments = ("case", "add", "brain", "--image", image, "--segmentation", segmentation, "--role", "train")
    process = python(DISK_FULL, *arguments)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith("Error: Cannot write")
    assert stderr.count("\n") == 1
    assert tree(tmp_path) == before


# models


@pytest.fixture
def lineage(workspace: Workspace, tmp_path: Path) -> Workspace:
    """M0 <- M1 (brain) <- M2 (brain)."""
    weights = weights_folder(tmp_path / "weights")
    for version_id, task, parent in (("M0", None, None), ("M1", "brain", "M0"), ("M2", "brain", "M1")):
        workspace.publish(a_version(version_id, weights, task, parent), weights)
    return workspace


def test_promote_and_roll_back(run: Run, lineage: Workspace) -> None:
    assert run("models", "promote", "M1").stdout == "M1 is now current for brain (before: none).\n"
    assert run("models", "promote", "M2", "--reason", "better", "--by", "Ada").exit_code == 0
    versions = {version["id"]: version for version in json.loads(run("models", "list", "--json").stdout)}
    assert (versions["M2"]["current_for"], versions["M2"]["is_chain"]) == (["brain"], True)
    assert (versions["M1"]["current_for"], versions["M1"]["is_chain"]) == ([], False)
    move = lineage.pointers().history[-1]
    assert (move.who, move.reason) == ("Ada", "better")
    assert run("models", "rollback", "brain").stdout == "M1 is now current for brain (before: M2).\n"
    assert json.loads(run("models", "rollback", "brain", "--json").stdout)["tasks"] == {}
    assert lineage.pointers().chain == "M0"


def test_models_show(run: Run, lineage: Workspace) -> None:
    assert "a foundation model" in run("models", "show", "M0").stdout
    shown = json.loads(run("models", "show", "M1", "--json").stdout)
    assert (shown["parent"], shown["task"]) == ("M0", "brain")


def test_refused_model_requests(run: Run, lineage: Workspace) -> None:
    assert run("models", "promote", "M1").exit_code == 0
    before = tree(lineage.folder)
    refused(run("models", "promote", "M0"), "foundation model")
    refused(run("models", "promote", "M1"), "already the current version")
    refused(run("models", "promote", "M2"), "only with a reason", "no held-out case of brain")
    refused(run("models", "promote", "M7"), "no model version M7 (versions: M0, M1, M2)")
    refused(run("models", "promote", "../M1"), "'../M1' is not a model version")
    refused(run("models", "show", "newest"), "not a model version")
    refused(run("models", "rollback", "liver"), "no task 'liver'")
    assert run("models", "rollback", "brain").exit_code == 0
    refused(run("models", "rollback", "brain"), "nothing to roll back")
    assert run("models", "list", "--json").exit_code == 0
    assert tree(lineage.folder).keys() == before.keys()


# import-decathlon


def decathlon(folder: Path, count: int = 10, **changes: Any) -> Path:
    """A data set of `count` cases; a change of None leaves the field out of dataset.json."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    names = [f"brain_{number:03}.nii.gz" for number in range(count)]
    for number, name in enumerate(names):
        image, label_map = write_pair(folder, f"brain_{number:03}", seed=number)
        image.rename(folder / "imagesTr" / name)
        label_map.rename(folder / "labelsTr" / name)
    described = {
        "name": "Small Brains",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "grey matter", "2": "white matter"},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        **changes,
    }
    present = {field: value for field, value in described.items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(present), encoding="utf-8")
    return folder


def test_import_draws_a_fifth_for_validation(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    result = run("import-decathlon", decathlon(tmp_path / "data"), "--json")
    assert result.exit_code == 0, result.stderr
    counts = {"train": 8, "validation": 2, "added": 10, "known": 0, "twice": 0}
    assert json.loads(result.stdout) == {"task": "Small-Brains", **counts}
    task = workspace.task("Small-Brains")
    assert [label.name for label in task.labels] == ["grey matter", "white matter"]
    assert len({label.color for label in task.labels}) == 2
    assert {case.id for case in workspace.cases()} == {f"brain_{number:03}" for number in range(10)}


def test_import_again_skips_and_more_may_be_drawn(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data")
    options = (data, "--task", "small", "--validation", "3", "--seed", "7", "--json")
    assert run("import-decathlon", *options, "--train", "2").exit_code == 0
    held_out = [case.id for case in workspace.cases("small", Role.VALIDATION)]
    again = json.loads(run("import-decathlon", *options, "--train", "4").stdout)
    assert (again["added"], again["known"], again["train"], again["validation"]) == (2, 5, 4, 3)
    assert [case.id for case in workspace.cases("small", Role.VALIDATION)] == held_out
    before = tree(workspace.folder)
    refused(run("import-decathlon", data, "--task", "small", "--seed", "8"), "a role never changes")
    assert tree(workspace.folder) == before


def test_import_leaves_out_a_scan_that_is_there_twice(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", 4)
    copy = (data / "imagesTr" / "brain_000.nii.gz").read_bytes()
    (data / "imagesTr" / "brain_001.nii.gz").write_bytes(copy)
    result = run("import-decathlon", data, "--json")
    assert result.exit_code == 0, result.stderr
    assert (json.loads(result.stdout)["added"], json.loads(result.stdout)["twice"]) == (3, 1)
    assert "Warning: left out brain_00" in result.stderr


def test_import_stops_at_a_bad_file_and_goes_on_when_it_is_mended(
    run: Run, workspace: Workspace, tmp_path: Path
) -> None:
    data = decathlon(tmp_path / "data", 6)
    bad = data / "labelsTr" / "brain_003.nii.gz"
    good = bad.read_bytes()
    bad.write_bytes(good[:100])
    result = run("import-decathlon", data)
    refused(result, "brain_003.nii.gz", "cases before it are imported; run again to go on")
    imported = len(workspace.cases())
    bad.write_bytes(good)
    counts = json.loads(run("import-decathlon", data, "--json").stdout)
    assert (counts["known"], counts["added"]) == (imported, 6 - imported)


def test_import_refuses_another_scan_under_a_known_name(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    assert run("import-decathlon", decathlon(tmp_path / "data", 4)).exit_code == 0
    other = decathlon(tmp_path / "other", 4)
    for number in range(4):
        image, _ = write_pair(tmp_path, "new", seed=100 + number)
        image.replace(other / "imagesTr" / f"brain_{number:03}.nii.gz")
    before = tree(workspace.folder)
    refused(run("import-decathlon", other), "another scan under the name")
    assert tree(workspace.folder) == before


CASE = {"image": "imagesTr/brain_000.nii.gz", "label": "labelsTr/brain_000.nii.gz"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": [{**CASE, "image": "../secret.nii.gz"}]}, "leaves the folder"),
        ({"training": [{**CASE, "image": "imagesTr/../../secret.nii.gz"}]}, "leaves the folder"),
        ({"training": [{**CASE, "image": "/etc/passwd"}]}, "leaves the folder"),
        ({"training": [{**CASE, "image": "C:\\secret.nii.gz"}]}, "leaves the folder"),
        ({"training": [{**CASE, "image": "..\\secret.nii.gz"}]}, "leaves the folder"),
        ({"training": [{**CASE, "image": "imagesTr/gone.nii.gz"}]}, "gone.nii.gz', but it is missing"),
        ({"training": [{**CASE, "label": "labelsTr"}]}, "is missing"),
        ({"training": [{"image": "imagesTr/brain_000.nii.gz"}]}, "no file name for 'label'"),
        ({"training": [{**CASE, "image": 7}]}, "no file name for 'image'"),
        ({"training": [CASE, CASE]}, "would both be named brain_000"),
        ({"training": ["imagesTr/brain_000.nii.gz"]}, "must have 'image' and 'label'"),
        ({"training": []}, "'training' must list the cases"),
        ({"training": None}, "'training' must list the cases"),
        ({"training": {"image": "x"}}, "'training' must list the cases"),
        ({"labels": None}, "'labels' must map values to names"),
        ({"labels": ["background", "a"]}, "'labels' must map values to names"),
        ({"labels": {"0": "background"}}, "field labels"),
        ({"labels": {"background": 0, "a": 1}}, "must map a whole number to a name"),
        ({"labels": {"1": "a", "01": "b"}}, "declared twice"),
        ({"labels": {"1": "a", "2": "A"}}, "label names must differ"),
        ({"labels": {"1": "a", "999": "b"}}, "less than or equal to 255"),
        ({"labels": {"1": " "}}, "name"),
        ({"modality": None}, "'modality' must map"),
        ({"modality": {"0": "T1", "1": "T2"}}, "2 channels"),
        ({"modality": {"0": "PET"}}, "'PET' is unknown"),
        ({"modality": {"0": 7}}, "7 is unknown"),
        ({"name": 7}, "'name' must be text"),
        ({"name": "???"}, "cannot be used"),
    ],
)
def test_refused_data_sets(
    run: Run, workspace: Workspace, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "secret.nii.gz").write_bytes(b"secret")
    data = decathlon(tmp_path / "data", 2, **changes)
    before = tree(tmp_path)
    refused(run("import-decathlon", data), message)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no dataset.json"),
        ("", "not valid JSON"),
        ("[]", "must hold a JSON object"),
        ("[" * 9999, "not valid"),
    ],
)
def test_refused_descriptions(run: Run, workspace: Workspace, tmp_path: Path, text: str | None, message: str) -> None:
    (tmp_path / "data").mkdir()
    if text is not None:
        (tmp_path / "data" / "dataset.json").write_text(text, encoding="utf-8")
    refused(run("import-decathlon", tmp_path / "data"), message)
    assert workspace.cases() == []


def test_refused_draws(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", 5)
    before = tree(tmp_path)
    refused(
        run("import-decathlon", data, "--train", "4", "--validation", "2"), "too few for 4 training and 2 validation"
    )
    refused(run("import-decathlon", data, "--train", "0"), "--train")
    refused(run("import-decathlon", data, "--task", "brain", "--train", "9"), "too few")
    refused(run("import-decathlon", decathlon(tmp_path / "single", 1)), "too few")
    refused(run("import-decathlon", tmp_path / "nowhere"), "has no dataset.json")
    assert {path for path in tree(tmp_path) if not path.startswith("single")} == set(before)


def test_import_into_a_task_with_other_labels(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", 2, labels={"0": "background", "1": "white matter", "2": "grey matter"})
    before = tree(workspace.folder)
    refused(run("import-decathlon", data, "--task", "brain"), "another modality or other labels")
    assert tree(workspace.folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_interrupted_import_goes_on(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    data = decathlon(tmp_path / "data", 60)
    command = [sys.executable, "-m", "MedSeqFTLib.commands", "import-decathlon", str(data), "--task", "brain"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not workspace.cases() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "Error: interrupted\n")
    stored = workspace.cases()
    assert 0 < len(stored) < 60
    for case in stored:
        workspace.verify_case(case)
    counts = json.loads(run("import-decathlon", data, "--task", "brain", "--json").stdout)
    assert (counts["known"], counts["added"]) == (len(stored), 60 - len(stored))
    assert list((workspace.folder / "cache").iterdir()) == []


# doctor


def test_doctor_reports_device_and_libraries(run: Run, workspace: Workspace) -> None:
    found = json.loads(run("doctor", "--json").stdout)
    assert found["ready"] is True
    assert found["workspace_found"] is True
    assert found["device"]["kind"] in ("cuda", "mps", "cpu")
    assert found["libraries"]["SimpleITK"] == sitk.Version.VersionString()
    assert found["memory"] > found["memory_free"] > 0
    shown = run("doctor")
    assert shown.exit_code == 0
    assert "Ready to adapt models." in shown.stdout


def test_doctor_without_a_workspace_says_what_to_do(run: Run) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "medseqft init" in result.stderr


WITHOUT_TORCH = """
import sys
from importlib import metadata
version = metadata.version
def without(name):
    if name == "torch":
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = without
from MedSeqFTLib.commands.app import app
app(["doctor", "--json"])
"""


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    stdout, stderr = python(WITHOUT_TORCH).communicate(timeout=60)
    found = json.loads(stdout)
    assert (found["ready"], found["device"], stderr) == (False, None, "")
    assert "torch is missing: pip install torch" in found["advice"]


BROKEN_TORCH = """
import sys
from pathlib import Path
Path(sys.argv[1], "torch.py").write_text(f"raise OSError({sys.argv[2]!r})")
sys.path.insert(0, sys.argv[1])
from MedSeqFTLib.commands.app import app
app(["doctor", "--json"])
"""


def test_doctor_survives_a_broken_torch(tmp_path: Path) -> None:
    missing = "libcudart.so.12: cannot open shared object file"
    stdout, stderr = python(BROKEN_TORCH, tmp_path, missing).communicate(timeout=60)
    found = json.loads(stdout)
    assert (found["ready"], stderr) == (False, "")
    assert any("libcudart.so.12" in advice and "install it again" in advice for advice in found["advice"])


def test_doctor_blames_no_library_where_memory_is_used_up(tmp_path: Path) -> None:
    """What the loader of libraries says then; installing torch again would not help."""
    process = python(BROKEN_TORCH, tmp_path, "libtorch_cpu.so: failed to map segment from shared object")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert "Out of memory (libtorch_cpu.so" in stderr and "Close other programs" in stderr


def test_a_table_of_many_rows_looks_like_a_short_one(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"case-{number}", "\u5927" * (number % 3), None, number) for number in range(console._LONG + 1)]
    console.print_table(("Case", "Wide", "", "Number"), rows[1:], "")
    short = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    console.print_table(("Case", "Wide", "", "Number"), rows, "")
    long = capsys.readouterr().out.splitlines()
    assert long[:1] + long[2:] == short
    assert long[1].split() == ["case-0", "0"]


def test_lines_of_a_cell_become_one_in_a_long_table(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(("Note",), [("two\nlines",)] * (console._LONG + 1), "")
    assert set(capsys.readouterr().out.splitlines()[1:]) == {"two lines"}
