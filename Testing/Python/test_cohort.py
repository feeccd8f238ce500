"""The demo cohort: same seed same voxels, geometry of every kind, anatomy that is whole and where it should be."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedSeqFTLib.errors import InputError, StorageError
from MedSeqFTLib.imaging import cohort, phantom
from MedSeqFTLib.imaging.anatomy import CHANNELS, STEP, Anatomy, load_anatomy
from MedSeqFTLib.imaging.decathlon import read_data_set
from MedSeqFTLib.imaging.geometry import Geometry, difference
from MedSeqFTLib.imaging.segmentations import read_label_map
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.workspace.schema import Modality

CASES = 6


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return load_anatomy()


@pytest.fixture(scope="module", params=list(cohort.RECIPES))
def kind(request: pytest.FixtureRequest) -> cohort.Kind:
    return request.param


@pytest.fixture(scope="module")
def folder(kind: cohort.Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort.make_cohort(tmp_path_factory.mktemp("cohorts") / kind, kind, CASES, seed=5)


@pytest.fixture(scope="module")
def pairs(folder: Path) -> list[tuple[sitk.Image, sitk.Image]]:
    training = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["training"]
    return [(sitk.ReadImage(folder / entry["image"]), sitk.ReadImage(folder / entry["label"])) for entry in training]


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def test_folder_is_a_decathlon_task(folder: Path, kind: cohort.Kind) -> None:
    document = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert document["semi-synthetic"] is True
    assert document["modality"] == {"0": "MRI"}
    assert document["labels"] == {
        str(value): name for value, name in enumerate(("background", *cohort.RECIPES[kind].labels))
    }
    assert document["numTraining"] == len(document["training"]) == CASES
    assert "McConnell Brain Imaging Centre" in document["licence"]
    named = {entry[part] for entry in document["training"] for part in ("image", "label")}
    assert {(folder / name).resolve() for name in named} == {path.resolve() for path in folder.glob("*/*.nii.gz")}


def test_the_importer_of_decathlon_folders_reads_it(folder: Path, kind: cohort.Kind) -> None:
    data_set = read_data_set(folder)
    assert data_set.task.name == kind
    assert data_set.task.modality is Modality.MR
    assert tuple(label.name for label in data_set.task.labels) == cohort.RECIPES[kind].labels
    assert len(data_set.pairs) == CASES
    pair = data_set.pairs[0]
    image = read_volume(pair.image)
    found = read_label_map(pair.label_map, data_set.task.labels)
    assert difference(Geometry.of(found.image), Geometry.of(image)) is None


def test_labels_lie_on_the_grid_of_their_image(pairs: list[tuple[sitk.Image, sitk.Image]]) -> None:
    for image, labels in pairs:
        assert labels.GetSize() == image.GetSize()
        for part in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.allclose(getattr(labels, part)(), getattr(image, part)(), rtol=0, atol=1e-6), part
        assert image.GetPixelID() == sitk.sitkInt16
        assert labels.GetPixelID() == sitk.sitkUInt8


def test_geometry_is_valid_and_varied(pairs: list[tuple[sitk.Image, sitk.Image]]) -> None:
    images = [image for image, _ in pairs]
    for image in images:
        axes = np.reshape(image.GetDirection(), (3, 3))
        assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-5)
        assert abs(axes).max() < 0.99999, "oblique"
        assert 2.5 <= min(image.GetSpacing()) < max(image.GetSpacing()) <= 3.501, "anisotropic"
        assert 180_000 < image.GetNumberOfPixels() < 420_000
    for part in ("GetOrigin", "GetSpacing", "GetSize", "GetDirection"):
        assert len({getattr(image, part)() for image in images}) == CASES, part
    codes = {sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()) for image in images}
    assert len(codes) > 1


def test_every_structure_is_there_and_inside_the_head(pairs: list[tuple[sitk.Image, sitk.Image]]) -> None:
    for image, labels in pairs:
        array, values = voxels(image), voxels(labels)
        bright = sitk.SmoothingRecursiveGaussian(image, 3.0) > 0.1 * float(np.percentile(array, 99))
        head = sitk.BinaryFillhole(bright)
        assert set(np.unique(values)) == set(range(values.max() + 1))
        assert (voxels(head)[values > 0] > 0).mean() > 0.98
        assert array[values > 0].mean() > 3 * array[0:4, 0:4, 0:4].mean(), "corner is air"
        assert 1000 < (values > 0).sum() * np.prod(image.GetSpacing()) / 1000 < 2200, "ml of brain"


def test_contrast_is_that_of_the_sequence(pairs: list[tuple[sitk.Image, sitk.Image]], kind: cohort.Kind) -> None:
    for image, labels in pairs:
        means = [voxels(image)[voxels(labels) == value].mean() for value in range(1, voxels(labels).max() + 1)]
        if kind == "t1-tissue":
            grey, white, fluid = means
            assert white > 1.15 * grey > 1.15 * 1.15 * fluid
        else:
            brain, ventricles = means
            assert ventricles > 1.4 * brain


def test_ventricles_are_one_pair_of_human_size(anatomy: Anatomy) -> None:
    sizes = []
    for number in range(4):
        _, labels = cohort.make_case(anatomy, "t2-ventricles", (1, number))
        parts = sitk.RelabelComponent(sitk.ConnectedComponent(labels == 2, True))
        counts = np.bincount(voxels(parts).ravel())[1:]
        assert counts[:2].sum() > 0.95 * counts.sum()
        sizes.append(counts.sum() * np.prod(labels.GetSpacing()) / 1000)
    assert all(5 < size < 60 for size in sizes)
    assert max(sizes) > 1.1 * min(sizes)


def test_same_seed_same_voxels_whatever_the_number_of_cases(folder: Path, kind: cohort.Kind, tmp_path: Path) -> None:
    again = cohort.make_cohort(tmp_path / "again", kind, 2, seed=5)
    for number in (1, 2):
        for part in ("imagesTr", "labelsTr"):
            file = f"{part}/{kind}_{number:03d}.nii.gz"
            assert voxels(sitk.ReadImage(folder / file)).tobytes() == voxels(sitk.ReadImage(again / file)).tobytes()


def test_seeds_kinds_and_numbers_give_different_people(anatomy: Anatomy) -> None:
    seeds = ((1, 1, 1), (2, 1, 1), (1, 0, 1), (1, 1, 2))
    cases = [cohort.make_case(anatomy, "t1-tissue", seed)[0] for seed in seeds]
    cases.append(cohort.make_case(anatomy, "t2-ventricles", (1, 1, 1))[0])
    assert len({voxels(case).tobytes() for case in cases}) == len(cases)


def test_people_are_bent_but_never_folded_or_torn(anatomy: Anatomy) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        grid = phantom.draw_grid(rng)
        volume_change = phantom.jacobian(phantom.draw_person(anatomy, grid, rng)) / np.prod(grid.spacing)
        assert volume_change.min() > 0.1
        assert volume_change.max() < 3
        assert volume_change.std() > 0.02, "not merely scaled"


def test_jacobian_sees_a_fold() -> None:
    straight = np.stack(np.meshgrid(*[np.arange(6.0)] * 3, indexing="ij")).astype(np.float32)
    assert np.allclose(phantom.jacobian(straight), 1)
    folded = straight.copy()
    folded[0] = np.abs(folded[0] - 3)
    assert phantom.jacobian(folded).min() < 0


def test_smooth_noise_has_the_smoothness_it_promises() -> None:
    grid = phantom.Grid((24, 20, 22), np.float32([3, 2.5, 3]), np.eye(3))
    constant = phantom._basis(24, 3 / 40)
    assert np.allclose(constant.sum(axis=1), 1, atol=1e-5), "splines sum to one everywhere"
    field = phantom.smooth_noise(grid, 40, 1e6, np.random.default_rng(0), 1)[0]
    assert abs(field).max() <= phantom.INJECTIVE * 40 + 1e-3


@pytest.mark.parametrize("orientation", sorted(set(cohort.ORIENTATIONS)))
def test_reordering_axes_leaves_every_voxel_where_it_was(orientation: str) -> None:
    rng = np.random.default_rng(3)
    grid = phantom.draw_grid(rng)
    array = rng.integers(0, 1000, grid.size).astype(np.int16)
    turned = cohort._place(array, grid, np.array([10.0, -20.0, 33.0]), orientation)
    plain = cohort._place(array, grid, np.array([10.0, -20.0, 33.0]), "LPS")
    for index in rng.integers(0, grid.size[::-1], (20, 3)).tolist():
        point = plain.TransformIndexToPhysicalPoint(index)
        assert turned[turned.TransformPhysicalPointToIndex(point)] == plain[index]


def test_voxels_lie_in_the_patient_where_the_anatomy_was_sampled() -> None:
    grid = phantom.draw_grid(np.random.default_rng(4))
    image = cohort._place(np.zeros(grid.size, np.int16), grid, np.array([10.0, -20.0, 33.0]), "LPS")
    places = grid.places()
    for z, y, x in ((0, 0, 0), (5, 30, 12), tuple(size - 1 for size in grid.size)):
        point = np.array(image.TransformIndexToPhysicalPoint((x, y, z))) - (10, -20, 33)
        assert point[::-1] == pytest.approx(places[:, z, y, x], abs=1e-3)


def test_head_stands_upright_in_patient_space(anatomy: Anatomy) -> None:
    maps = dict(zip(CHANNELS, anatomy.maps, strict=True))
    masks = maps["eyes"] < 0, maps["ventricle"] > 0.5
    eyes, ventricles = (np.argwhere(mask).mean(axis=0) * STEP + anatomy.origin for mask in masks)
    assert eyes[1] < ventricles[1] - 40, "eyes are anterior of the ventricles"
    assert eyes[0] < ventricles[0] - 20, "and below them"
    assert abs(eyes[2]) < 2, "and symmetrical"


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("network used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    load_anatomy.cache_clear()
    assert load_anatomy().maps.shape[0] == len(CHANNELS)


def test_progress_counts_every_scan(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    cohort.make_cohort(tmp_path / "c", "t1-tissue", 2, 0, progress=lambda *pair: seen.append(pair))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("kind", "cases", "seed", "words"),
    [
        ("t3", 1, 0, "t1-tissue"),
        ("t1-tissue", -1, 0, "cases"),
        ("t1-tissue", 0, 0, "at least one"),
        ("t1-tissue", 1, -1, "seed"),
    ],
)
def test_unusable_requests_are_refused(tmp_path: Path, kind: cohort.Kind, cases: int, seed: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        cohort.make_cohort(tmp_path / "c", kind, cases, seed)
    assert not (tmp_path / "c").exists()


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="empty"):
        cohort.make_cohort(tmp_path, "t1-tissue", 1, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failed_write_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        cohort.make_cohort(tmp_path / "file" / "c", "t1-tissue", 1, 0)
    assert "\n" not in str(caught.value)
