"""The demo in a reduced form, started as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

from MedSeqFTLib.imaging.geometry import Geometry, difference
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    """What a reader of the report finds."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures.append(dict(attrs).get("alt") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def demo(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "MedSeqFTLib.commands", "demo", "--folder", str(folder), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False)


def test_the_demo_lives_through_the_whole_loop(tmp_path: Path) -> None:
    folder = tmp_path / "my demo"
    done = demo(folder, "--train", "3", "--validation", "1", "--effort", "0.03")
    assert done.returncode == 0, done.stderr
    workspace = Workspace.open(folder / "workspace")
    versions = workspace.versions()
    assert [version.task for version in versions] == [None, *2 * ["t1-tissue"], *2 * ["t2-ventricles"]]
    corrected = [case for case in workspace.cases() if case.proposed_by]
    assert [(case.task, case.proposed_by) for case in corrected] == [("t1-tissue", "M1"), ("t2-ventricles", "M3")]
    assert all(case.proposal_dice is not None for case in corrected)
    assert {(s.task, s.reading) for s in versions[-1].scores} == {
        (task, reading) for task in ("t1-tissue", "t2-ventricles") for reading in ("per-task", "single-model")
    }

    page = Page()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    assert len(page.pictures) == 2
    assert "semi-synthetic" in page.text
    assert "The chain begins with M0. MedSeqFT starter" in page.text
    assert all(version.id in page.text for version in versions)

    for task in ("t1-tissue", "t2-ventricles"):
        held_out = workspace.cases(task, Role.VALIDATION)[0]
        exported = {path.name: path for path in (folder / "export" / task).iterdir()}
        assert set(exported) == {f"{held_out.id}{ending}" for ending in (".seg.nrrd", ".labels.nrrd", ".json")}
        grid = Geometry.of(read_volume(folder / "data" / task / "imagesTr" / held_out.source_image))
        assert difference(Geometry.of(read_volume(exported[f"{held_out.id}.labels.nrrd"])), grid) is None
        sidecar = json.loads(exported[f"{held_out.id}.json"].read_text(encoding="utf-8"))
        assert sidecar["version"] in {version.id for version in versions}
        assert [label["name"] for label in sidecar["labels"]] == [label.name for label in workspace.task(task).labels]


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    done = demo(tmp_path)
    assert done.returncode == 2
    assert "exists and is not empty; choose another --folder." in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
