"""The story of docs/scripting.md, run as it is written there: real nodes, real files, real workers, tiny training."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from learning_samples import LABELS, TINY, ball_scan
from slicer_boot import scene as scene  # a fixture
from slicer_samples import slicer

from MedSeqFTLib.imaging.segmentations import read_label_map, write_seg_nrrd
from MedSeqFTLib.imaging.volumes import write_volume
from MedSeqFTLib.learning import settings

ROOT = Path(__file__).resolve().parents[2]


def story() -> str:
    """The examples as one program, on the lines where they stand in the document."""
    lines, inside = [], False
    for line in (ROOT / "docs" / "scripting.md").read_text(encoding="utf-8").splitlines():
        inside = (inside or line == "```python") and line != "```"
        lines.append(line if inside and not line.startswith("```") else "")
    return "\n".join(lines)


def test_the_documented_story(scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(settings.PRESETS, "quick", TINY)
    for number in range(1, 7):
        image, label_map = ball_scan(number)
        write_volume(image, Path(f"scan{number}.nrrd"))
        write_seg_nrrd(label_map, LABELS, Path(f"scan{number}.seg.nrrd"))
    imported = set(sys.modules)

    told: list[str] = []
    names: dict[str, Any] = {"print": lambda *parts: told.append(" ".join(map(str, parts)))}
    exec(compile(story(), "docs/scripting.md", "exec"), names)

    added = {name.partition(".")[0] for name in set(sys.modules) - imported}
    assert not added & {"torch", "monai", "peft"}
    logic, case = names["logic"], names["case"]
    assert told[:2] == ["1 ball", "2 shell"]
    assert "M1 is current: True" in told
    assert told[-2] == "M1"
    assert "train or validation" in told[-1]
    assert (case.id, case.proposed_by, case.role.value) == ("scan5", "M1", "train")
    assert 0 < case.proposal_dice < 1
    assert "scan5 has 1 earlier segmentation" in told
    assert any(line.startswith("scan6 comes next: 0.") for line in told)
    assert names["proposal"].GetName() == "scan6 by M1"
    assert not logic.not_stored()
    assert not logic.running()
    assert {pick.case for pick in logic.picks("M2")} == {"scan1", "scan2", "scan3", "scan5"}
    assert sum(pick.kept for pick in logic.picks("M2")) == 2
    check_export(names, scene)
    assert names["problems"] == ()
    assert [c.id for c in names["moved"].cases()] == [c.id for c in names["workspace"].cases()]


def check_export(names: dict[str, Any], scene: Any) -> None:
    """The exported files, read by SimpleITK and by Slicer, are what was accepted."""
    volume, labels = names["volume"], names["task"].labels
    exported = sitk.ReadImage("results/scan5.labels.nrrd")
    source = sitk.ReadImage("scan5.nrrd")
    for ours, theirs in (
        (exported.GetSpacing(), source.GetSpacing()),
        (exported.GetOrigin(), source.GetOrigin()),
        (exported.GetDirection(), source.GetDirection()),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    array = sitk.GetArrayFromImage(exported)
    np.testing.assert_array_equal(array == labels[1].value, names["voxels"] != 0)  # the later label wins
    node = slicer.util.loadSegmentation("results/scan5.seg.nrrd")
    for index, label in enumerate(labels):
        identifier = node.GetSegmentation().GetNthSegmentID(index)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
        np.testing.assert_array_equal(mask != 0, array == label.value)
    sidecar = json.loads(Path("results/scan5.json").read_text(encoding="utf-8"))
    assert (sidecar["origin"], sidecar["version"]) == ("accepted by a person", "M1")
    stored = read_label_map(names["workspace"].segmentation_path(names["case"]), labels)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(stored.image), array)


def test_the_document_names_what_there_is() -> None:
    """Every method of the logic is shown or named, and every part of the table exists."""
    text = (ROOT / "docs" / "scripting.md").read_text(encoding="utf-8")
    from MedSeqFTLib.scene.logic import SceneLogic

    public = {name for name in vars(SceneLogic) if not name.startswith("_")}
    assert set(re.findall(r"logic\.([a-z_]+)\(", text)) <= public


def test_the_logic_imports_neither_torch_nor_a_window() -> None:
    code = "import sys, MedSeqFTLib.scene.logic\nprint(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in child.stdout.split()}
    assert not loaded & {
        "torch",
        "monai",
        "peft",
        "transformers",
        "matplotlib",
        "typer",
        "rich",
        "qt",
        "ctk",
        "PySide6",
    }
