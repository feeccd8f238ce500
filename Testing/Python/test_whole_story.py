"""The whole story through the window: two volumes segmented, corrected and accepted, a model adapted, the process that
shows the window killed, started again, attached again; the new version promoted, everything exported, and compared.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import vtk
from first_half_of_the_story import SHORT
from numpy.typing import NDArray
from slicer_program import Window, running, scene  # noqa: F401
from slicer_samples import slicer
from story import TASK, Story

from MedSeqFTLib.learning import settings
from MedSeqFTLib.scene.sample_data import load_scan, scan_name
from MedSeqFTLib.workspace.audit_check import verify
from MedSeqFTLib.workspace.workspace import Workspace

FIRST_HALF = Path(__file__).with_name("first_half_of_the_story.py")
CORRECTED = (4, 5)


def test_the_whole_story(scene: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # noqa: F811
    told = first_half(tmp_path)
    assert "M1 is in use: first version of brain-tissue" in told
    workspace = Workspace.open(tmp_path / "workspace")
    monkeypatch.setitem(settings.PRESETS, "quick", SHORT)
    with running(monkeypatch, settings=tmp_path) as program:
        window = Window(program.dialogs, program.installers, program.raised)
        story = Story(window)
        attach_again(story)
        verdict = story.wait_for_adapting()
        assert verdict.startswith("M2 is")
        if workspace.pointers().tasks[TASK] != "M2":  # this short a training need not be better
            story.promote("M2", "the ventricles are better")
        assert workspace.pointers().tasks[TASK] == "M2"
        story.export_all(tmp_path / "exported")
        window.close()
    assert set(workspace.version("M2").train_cases) == {scan_name(number) for number in (1, 2, *CORRECTED)}
    for number in CORRECTED:
        compare(tmp_path, number)
    assert verify(workspace).problems == ()


def first_half(folder: Path) -> str:
    """A window of its own, in a process that is killed while a model is being adapted."""
    done = subprocess.run(
        [sys.executable, str(FIRST_HALF), str(folder)], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    return done.stdout


def attach_again(story: Story) -> None:
    """The workspace of last time opens by itself; the adaptation goes on, and is followed."""
    ui, window = story.ui, story.window
    window.wait_until(lambda: window.widget.session.logic is not None)
    window.choose(ui.taskComboBox, TASK)
    story.unfold(ui.adaptCollapsibleButton)
    assert ui.adaptButton.text == "Cancel", ui.adaptStateLabel.text
    assert ui.adaptStateLabel.text.startswith(f"Adapting to {TASK}")


def compare(folder: Path, number: int) -> None:
    """What was exported, read with other programs' eyes, against what the person left in the scene."""
    exported, name = folder / "exported", scan_name(number)
    volume, _ = load_scan(number)
    shape = slicer.util.arrayFromVolume(volume).shape
    labels = sitk.ReadImage(str(exported / f"{name}.labels.nrrd"))
    voxels = sitk.GetArrayFromImage(labels)
    assert voxels.shape == shape
    assert np.array_equal(voxels == 1, np.fromfile(folder / f"edited{number}.raw", np.bool_).reshape(shape))
    sidecar = json.loads((exported / f"{name}.json").read_text(encoding="utf-8"))
    assert [label["name"] for label in sidecar["labels"]] == ["grey matter", "white matter", "cerebrospinal fluid"]
    assert np.allclose(ijk_to_ras(labels), slicer_ijk_to_ras(volume), atol=1e-5)  # mm
    segmentation = slicer.util.loadSegmentation(str(exported / f"{name}.seg.nrrd"))
    identifier = segmentation.GetSegmentation().GetNthSegmentID(0)
    again = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identifier, volume)
    assert np.array_equal(again > 0, voxels == 1)


def ijk_to_ras(image: sitk.Image) -> NDArray[np.float64]:
    """From SimpleITK's LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def slicer_ijk_to_ras(volume: Any) -> NDArray[np.float64]:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
