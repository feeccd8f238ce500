"""One scan in several files: found again, and never a train and a validation case at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from imaging_samples import elsewhere, one_line, stored_otherwise, with_voxels
from learning_samples import ball_scan, ball_task
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner, Result

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.imaging import likeness as likeness_module
from MedSeqFTLib.imaging import near_duplicates
from MedSeqFTLib.imaging.acceptance import accept
from MedSeqFTLib.imaging.likeness import Likeness, Sampled, Scan, likeness
from MedSeqFTLib.imaging.near_duplicates import ALIKE, NearDuplicateError, same_scan
from MedSeqFTLib.imaging.segmentations import write_label_map
from MedSeqFTLib.imaging.thumbnails import read_thumbnails
from MedSeqFTLib.imaging.volumes import write_volume
from MedSeqFTLib.workspace.audit import entries
from MedSeqFTLib.workspace.schema import Case, Role
from MedSeqFTLib.workspace.workspace import Workspace

TRAIN, VALIDATION = Role.TRAIN, Role.VALIDATION


def a_scan(seed: int, shape: tuple[int, int, int] = (30, 44, 38)) -> sitk.Image:
    """Smooth structures on an oblique grid, in some places air."""
    random = np.random.default_rng(seed)
    pixels = gaussian_filter(random.normal(size=shape), 2.0) * 4000 + 200
    inside = gaussian_filter(random.normal(size=shape), 5.0) > -0.01
    image = sitk.GetImageFromArray(np.rint(np.where(inside, pixels, -300)).astype(np.int16))
    image.SetSpacing((1.0, 1.2, 2.0))
    image.SetDirection((np.cos(0.2), -np.sin(0.2), 0, np.sin(0.2), np.cos(0.2), 0, 0, 0, -1))
    image.SetOrigin((5, -60, 30))
    return image


def other_units(image: sitk.Image) -> sitk.Image:
    return with_voxels(image, (sitk.GetArrayFromImage(image) * 0.5 + 1024).astype(np.float32))


def noisy(image: sitk.Image) -> sitk.Image:
    voxels = sitk.GetArrayFromImage(image).astype(np.float32)
    return with_voxels(image, voxels + np.random.default_rng(1).normal(0, 0.05 * voxels.std(), voxels.shape))


def resampled(image: sitk.Image) -> sitk.Image:
    low, high = Scan(image).box
    spacing = np.array([1.4, 1.3, 1.6])
    size = [int(n) for n in np.round((high - low) / spacing)]
    return sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, low + spacing / 2, spacing.tolist(), np.eye(3).ravel(), -300.0
    )


def cropped(image: sitk.Image) -> sitk.Image:
    return image[2:-1, 3:, 1:-2]


def padded(image: sitk.Image) -> sitk.Image:
    return sitk.ConstantPad(image, (6, 0, 3), (2, 5, 4), -1024)


CHANGES = [other_units, noisy, resampled, cropped, padded, stored_otherwise, elsewhere]


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_scan_is_known_again(change: Callable[[sitk.Image], sitk.Image]) -> None:
    scan = a_scan(1)
    assert same_scan(Scan.of(scan), Scan.of(change(scan))) >= ALIKE
    assert same_scan(Scan.of(a_scan(2)), Scan.of(change(scan))) < 0.5


def test_what_is_shared_by_many_comparisons_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same shapes with other masks, same masks with other values, other shapes; and more masks than are kept."""
    monkeypatch.setattr(likeness_module, "_MOST_SHARED", 2)
    random, cell = np.random.default_rng(0), np.full(3, 3.0)
    first, others = Scan.of(a_scan(1)).sample(cell), [Scan.of(a_scan(n)).sample(cell) for n in (1, 2, 3)]
    for shape in ((20, 14, 9), (8, 11, 12)):
        others += [Sampled(random.normal(size=shape).astype(np.float32), random.random(shape) > 0.1) for _ in range(2)]
    others = [Sampled(np.where(one.inside, one.values, 0), one.inside) for one in others]
    comparing = Likeness(first)
    scores = [comparing.to(other) for other in [*others, *others]]
    assert scores == [likeness(first, other) for other in [*others, *others]]
    assert scores[0] > 0.99 and len(set(scores[:3])) == 3


def test_what_shows_nothing_is_like_nothing() -> None:
    flat = with_voxels(a_scan(1), np.full((30, 44, 38), 7, np.int16))
    assert same_scan(Scan.of(flat), Scan.of(flat)) == 0
    assert same_scan(Scan.of(a_scan(1)), Scan.of(flat)) == 0
    tiny = a_scan(1)[:4, :4, :4]
    assert same_scan(Scan.of(tiny), Scan.of(tiny)) == 0  # too few voxels to tell


class Shelf:
    """A workspace, and a quick way to accept scans."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = Workspace.create(folder / "workspace")
        for name in ("balls", "shells"):
            self.workspace.add_task(ball_task(name))

    def files(self, name: str, image: sitk.Image) -> tuple[Path, Path]:
        labels = np.zeros(sitk.GetArrayViewFromImage(image).shape, np.uint8)
        labels[:5, :5, :5] = 1
        paths = self.folder / f"{name}.nrrd", self.folder / f"{name}-labels.nrrd"
        write_volume(image, paths[0])
        write_label_map(with_voxels(image, labels), paths[1])
        return paths

    def add(self, name: str, image: sitk.Image, role: Role, task: str = "balls", why: str = "") -> Case:
        paths = self.files(name, image)
        return accept(self.workspace, self.workspace.task(task), *paths, role, near_duplicate_reason=why, by="me")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.mark.parametrize(("first", "second"), [(TRAIN, VALIDATION), (VALIDATION, TRAIN)])
def test_a_near_duplicate_of_the_other_role_is_refused(shelf: Shelf, first: Role, second: Role) -> None:
    shelf.add("one", a_scan(1), first)
    shelf.add("two", a_scan(2), second)
    for task in ("balls", "shells"):
        words = (
            f"again.nrrd shows the same scan as the {first.value} case one of task balls",
            f"as a {first.value} case",
        )
        one_line(NearDuplicateError, lambda: shelf.add("again", cropped(a_scan(1)), second, task), *words)  # noqa: B023
    assert [case.id for case in shelf.workspace.cases()] == ["one", "two"]


def test_of_the_same_role_it_is_accepted_and_named(shelf: Shelf) -> None:
    assert shelf.add("one", a_scan(1), TRAIN).near_duplicate is None
    found = shelf.add("again", noisy(a_scan(1)), TRAIN).near_duplicate
    assert found is not None
    assert (found.task, found.case, found.role) == ("balls", "one", TRAIN)
    assert found.likeness >= ALIKE
    assert shelf.add("one", a_scan(1), TRAIN, "shells").near_duplicate is not None  # "again" of balls, not itself
    one_line(NearDuplicateError, lambda: shelf.add("held", cropped(a_scan(1)), VALIDATION, "shells"), "train case")


def test_a_person_may_insist_with_a_reason_that_is_kept(shelf: Shelf) -> None:
    shelf.add("one", a_scan(1), TRAIN, why="never asked for")
    case = shelf.add("again", other_units(a_scan(1)), VALIDATION, why="a phantom, measured twice")
    assert case.near_duplicate is not None
    assert shelf.workspace.case("balls", "again") == case
    told = {entry.subject: entry.reason for entry, _ in entries(shelf.workspace) if entry.act == "case accepted"}
    assert told == {"balls/one": "", "balls/again": "a phantom, measured twice"}


def test_cases_of_older_programs_are_compared_too(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add("one", a_scan(1), TRAIN)
    shutil.rmtree(shelf.workspace.folder / "likeness")
    monkeypatch.setattr(near_duplicates, "PATIENCE", 0.0)
    assert shelf.add("two", a_scan(2), VALIDATION).not_compared == 1
    monkeypatch.undo()
    with pytest.raises(NearDuplicateError):
        shelf.add("again", padded(a_scan(1)), VALIDATION)
    assert set(read_thumbnails(shelf.workspace, "balls")) == {"one", "two"}


def test_damage_to_one_case_does_not_stop_another(shelf: Shelf) -> None:
    one, two = (shelf.add(name, a_scan(seed), TRAIN) for seed, name in ((1, "one"), (2, "two")))
    file = shelf.workspace.folder / "likeness" / "balls.jsonl"
    file.write_bytes(file.read_bytes()[:-40] + b"\xff\n" + b"{}\n")
    assert set(read_thumbnails(shelf.workspace, "balls")) == {"one"}
    shelf.workspace.image_path(two).write_bytes(b"gone")
    assert shelf.add("three", a_scan(3), VALIDATION).not_compared == 1
    with pytest.raises(NearDuplicateError):
        shelf.add("again", resampled(a_scan(1)), VALIDATION)
    shelf.workspace.image_path(one).write_bytes(b"gone")
    assert shelf.add("again", resampled(a_scan(1)), VALIDATION).near_duplicate is None  # nothing left to look at


def test_the_balls_of_other_tests_are_different_scans() -> None:
    scans = [Scan.of(ball_scan(seed)[0]) for seed in (0, 5, 6, 7, 100)]
    assert max(same_scan(a, b) for i, a in enumerate(scans) for b in scans[:i]) < ALIKE


def test_the_command_line_says_what_to_do(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    monkeypatch.setenv("MEDSEQFT_WORKSPACE", str(shelf.workspace.folder))
    shelf.add("one", a_scan(1), TRAIN)
    paths = shelf.files("again", noisy(a_scan(1)))
    add = ("case", "add", "balls", "--image", paths[0], "--segmentation", paths[1], "--role")
    refused = run(*add, "validation")
    assert refused.exit_code == 2
    assert "same scan as the train case one" in refused.stderr
    told = run(*add, "validation", "--allow-near-duplicate", "another patient").stderr
    assert "Warning: case again shows the same scan as the train case one of task balls" in told
    assert "train case one of task balls" in run("case", "show", "balls", "again").stdout
