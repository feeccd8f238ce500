"""Corrections: what is stored of them, whether they shrink, and whether the confidence is worth anything."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drift_samples import SHRINKING, correct, propose, tell
from imaging_samples import one_line
from learning_samples import LABELS, ball_scan, ball_task
from typer.testing import CliRunner
from workspace_samples import a_task, add_case

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.bootstrap import Interval
from MedSeqFTLib.evaluation.drift import drift
from MedSeqFTLib.evaluation.drift_page import case_table, confidence_chart, version_chart, version_table
from MedSeqFTLib.evaluation.report import Report, render_report
from MedSeqFTLib.evaluation.trends import line_change, rank_correlation
from MedSeqFTLib.imaging.correction import compare_label, correction
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace.create(tmp_path / "workspace")
    found.add_task(a_task())
    return found


def boxes(*spans: tuple[int, int]) -> np.ndarray:
    """Values 1, 2, ... in slabs of the first axis."""
    found = np.zeros((20, 6, 7), np.uint8)
    for value, (first, last) in enumerate(spans, start=1):
        found[first:last, 1:5, 1:6] = value
    return found


def test_distances_are_millimetres() -> None:
    dice, distance = compare_label(boxes((4, 8)), boxes((4, 10)), 1, (3.0, 1.0, 1.0))
    assert dice == pytest.approx(0.8)
    assert distance is not None
    assert 0 < distance < 6  # the moved side lies 6 mm away, the others did not move
    far, near = (compare_label(boxes((4, 8)), boxes((n, n + 4)), 1, (3.0, 1.0, 1.0))[1] for n in (12, 5))
    assert far is not None
    assert near is not None
    assert far > 4 * near
    assert compare_label(boxes((4, 8)), boxes((4, 8)), 1, (3.0, 1.0, 1.0)) == (1, 0)
    assert compare_label(boxes((4, 8)), boxes(), 1, (3.0, 1.0, 1.0)) == (0, None)
    assert compare_label(boxes(), boxes(), 1, (3.0, 1.0, 1.0)) == (None, None)


def test_a_correction_counts_labels_voxels_and_millimetres() -> None:
    labels = a_task().labels
    before, after = (sitk.GetImageFromArray(a) for a in (boxes((2, 6), (6, 10)), boxes((2, 6), (6, 8))))
    found = correction(before, after, labels, 0.9)
    assert (found.confidence, found.dice) == (0.9, {"grey matter": 1.0, "white matter": pytest.approx(2 / 3)})
    assert found.changed == pytest.approx(40 / 160)
    assert found.surface["grey matter"] == 0
    assert (found.surface["white matter"] or 0) > 0
    only = correction(before, after, labels[:1], None)  # nothing is said of white matter
    assert (only.changed, set(only.dice)) == (0, {"grey matter"})
    one_line(InputError, lambda: correction(*[sitk.GetImageFromArray(boxes())] * 2, labels, 0.5), "both empty")


def test_accepting_stores_what_was_corrected(tmp_path: Path) -> None:
    from workspace_samples import a_version, weights_folder

    from MedSeqFTLib.imaging.acceptance import Proposal, accept
    from MedSeqFTLib.imaging.revision import revise
    from MedSeqFTLib.imaging.segmentations import write_label_map
    from MedSeqFTLib.imaging.volumes import write_volume

    workspace = Workspace.create(tmp_path / "workspace")
    workspace.add_task(ball_task())
    for version, parent, task in (("M0", None, None), ("M1", "M0", "balls")):
        files = weights_folder(tmp_path / version)
        workspace.publish(a_version(version, files, task, parent), files)
    image, labels = ball_scan(1)
    cut = sitk.GetArrayFromImage(labels)
    cut[:11] = 0
    proposed = sitk.GetImageFromArray(cut)
    proposed.CopyInformation(labels)
    paths = [tmp_path / f"{name}.nrrd" for name in ("scan", "accepted", "proposed")]
    write_volume(image, paths[0])
    for path, found in zip(paths[1:], (labels, proposed), strict=True):
        write_label_map(found, path)
    proposal = Proposal("M1", paths[2], 0.77)
    case = accept(workspace, workspace.task("balls"), paths[0], paths[1], "train", proposal=proposal)
    assert case.correction is not None
    assert case.correction.confidence == 0.77
    known = [value for value in case.correction.dice.values() if value is not None]
    assert case.proposal_dice == pytest.approx(sum(known) / len(LABELS))
    assert 0 < case.correction.changed < 1
    assert workspace.case("balls", "scan") == case
    again = revise(workspace, workspace.task("balls"), "scan", paths[0], paths[2])
    assert again.correction is None  # the proposal was not kept in the workspace
    assert again.revisions[0].correction == case.correction


def test_shrinking_corrections_are_told(workspace: Workspace) -> None:
    tell(workspace, SHRINKING)
    found = drift(workspace, "brain")
    assert [(v.version, v.cases) for v in found.versions] == [("M1", 6), ("M2", 7), ("M3", 8)]
    assert found.trend == "shrinking"
    assert found.sentence.startswith("Corrections are shrinking: Dice of proposal and accepted segmentation +0.1")
    assert "from M1 to M3" in found.sentence
    assert found.sentence.endswith("(21 cases).")
    assert found.confidence.startswith("The surer the model, the less is corrected (rank correlation with Dice +0.")
    assert found.warning == ""
    first, last = found.versions[0], found.versions[-1]
    assert first.dice.low < first.dice.mean < first.dice.high < last.dice.low
    assert (first.seconds or 0) > (last.seconds or 0)
    assert (first.surface or 0) > (last.surface or 0)


@pytest.mark.parametrize(
    ("story", "trend"),
    [
        ({"M1": (0.9, 0.9, 60.0, 12), "M2": (0.85, 0.9, 60.0, 12)}, "not shrinking"),
        ({"M1": (0.9, 0.9, 60.0, 5), "M2": (0.905, 0.9, 60.0, 5)}, "cannot be told yet"),
        ({"M1": (0.7, 0.9, 60.0, 20)}, "cannot be told yet"),
        ({"M1": (0.7, 0.9, 60.0, 20), "M2": (0.95, 0.9, 60.0, 2)}, "cannot be told yet"),
        ({"M1": (0.7, 0.9, 60.0, 3), "M2": (0.95, 0.9, 60.0, 3)}, "cannot be told yet"),
        ({}, "cannot be told yet"),
    ],
)
def test_what_is_not_sure_is_not_told(workspace: Workspace, story: dict[str, tuple[float, ...]], trend: str) -> None:
    tell(workspace, story)  # type: ignore[arg-type]
    found = drift(workspace, "brain")
    assert found.trend == trend
    assert trend in found.sentence
    assert f"{sum(int(part[3]) for part in story.values())} cases" in found.sentence
    for chart in (version_chart(found), confidence_chart(found)):
        assert "nan" not in chart


def test_only_proposals_of_versions_count(workspace: Workspace) -> None:
    correct(workspace, "one", "M1", 0.8, 0.9, 60, 0)
    add_case(workspace, "drawn", b"drawn")
    add_case(workspace, "moved", b"moved", proposed_by="M1")
    propose(workspace, "old", "M1", 0.66, 1)
    add_case(workspace, "old", b"old", proposed_by="M1", proposal_dice=0.7)  # of an older program
    found = drift(workspace, "brain")
    assert [(case.case, case.confidence) for case in found.cases] == [("one", 0.9), ("old", 0.66)]
    assert dict(found.apart) == {
        "drawn": "accepted without a proposal of a version",
        "moved": "the proposal of M1 was not at hand to be compared",
    }
    assert found.versions[0].changed == pytest.approx(0.28)  # of the case that tells it
    one_line(InputError, lambda: drift(workspace, "hearts"), "no task 'hearts'")


def test_a_fall_of_confidence_warns(workspace: Workspace) -> None:
    for number in range(8):
        propose(workspace, f"before{number}", "M1", 0.9 + 0.001 * number, number)
    assert drift(workspace, "brain").warning == ""
    for number in range(5):
        propose(workspace, f"after{number}", "M1", 0.8 + 0.001 * number, 10 + number)
    assert drift(workspace, "brain").warning.startswith(
        "The confidence has fallen: 0.802 in the last 5 volumes, 0.903 in the 8 segmented by M1 before"
    )
    for number in range(5):
        propose(workspace, f"later{number}", "M2", 0.88 + 0.001 * number, 20 + number)
    assert drift(workspace, "brain").warning == ""


def test_statistics_of_small_numbers() -> None:
    places = np.repeat([0.0, 1.0, 2.0], 4)
    change = line_change(places, places * 0.05)
    assert change == Interval(pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1), 1)
    up = np.arange(8.0)
    assert rank_correlation(up, up**3) == (pytest.approx(1), pytest.approx(0, abs=0.001))
    assert rank_correlation(up, np.ones(8)) is None
    mixed = rank_correlation(up, np.array([3.0, 1, 4, 1, 5, 2, 6, 3]))
    assert mixed is not None
    assert mixed[1] > 0.05


def test_tables_page_and_command(workspace: Workspace, tmp_path: Path) -> None:
    tell(workspace, SHRINKING)
    for number in range(5):
        propose(workspace, f"other{number}", "M3", 0.7, 100 + number)
    add_case(workspace, "drawn", b"drawn")
    found = drift(workspace, "brain")
    assert [row[0] for row in version_table(found).rows] == ["M1", "M2", "M3"]
    page = render_report(Report("x", drifts=[found]))
    for text in (found.sentence, found.warning, "Accepted cases that do not count here: 1", "M2 (7)"):
        assert text in page
    place = ("--workspace", str(workspace.folder))
    told = CliRunner().invoke(app, ["drift", "brain", "--csv", str(tmp_path / "d.csv"), *place])
    assert told.exit_code == 0
    assert found.sentence in told.stdout
    assert "Not counted: drawn (accepted without" in told.stdout
    assert "Warning: The confidence has fallen" in told.stderr
    with (tmp_path / "d.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(case_table(found).rows) == 21
    assert set(lines[0]) >= {"Case", "Version", "Dice grey matter", "Surface (mm)", "Time (s)"}
    document = json.loads(CliRunner().invoke(app, ["drift", "brain", "--json", *place]).stdout)
    assert (document["trend"], len(document["cases"])) == ("shrinking", 21)
    assert document["cases"][0]["correction"]["dice"].keys() == {"grey matter", "white matter"}
