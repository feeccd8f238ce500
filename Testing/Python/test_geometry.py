"""Voxel grids: canonical orientation and back, resampling, pasting, and the refusal of unusable ones."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from imaging_samples import SIGNED_PERMUTATIONS, counting_image, geometries, oblique, one_line
from scipy.spatial.transform import Rotation

from MedSeqFTLib.errors import GeometryError
from MedSeqFTLib.imaging.geometry import (
    Geometry,
    check_geometry,
    difference,
    from_canonical,
    onto_grid,
    require_same_grid,
    resample_onto,
    resample_to_spacing,
    spacing_problem,
    to_canonical,
)

UNIT = Geometry((4, 5, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def array_of(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def world(grid: Geometry, index: np.ndarray) -> np.ndarray:
    """Place of voxel `index` (x, y, z), by definition."""
    return np.array(grid.origin) + grid.index_to_world @ index


# --- canonical orientation -------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(geometries())
def test_canonical_and_back_is_exact(grid: Geometry) -> None:
    image = counting_image(grid)
    back = from_canonical(to_canonical(image), grid)
    assert Geometry.of(back) == grid  # bit by bit
    assert back.GetPixelID() == image.GetPixelID()
    np.testing.assert_array_equal(array_of(back), array_of(image))


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_canonical_image_has_every_value_where_it_was(grid: Geometry) -> None:
    canonical = to_canonical(counting_image(grid))
    turned = Geometry.of(canonical)
    values = array_of(canonical)
    for index in itertools.product(*(range(n) for n in turned.size)):
        z, y, x = np.unravel_index(int(values[index[::-1]]), grid.size[::-1])
        np.testing.assert_allclose(world(turned, np.array(index)), world(grid, np.array([x, y, z])), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_something_computed_on_the_canonical_grid_lands_where_it_belongs(grid: Geometry) -> None:
    """A mask drawn in world coordinates on the canonical image equals the mask drawn on the source."""
    plane = np.array([0.3, -0.8, 0.52])

    def drawn(on: Geometry) -> sitk.Image:
        z, y, x = np.indices(on.size[::-1]).reshape(3, -1)
        places = np.array(on.origin)[:, None] + on.index_to_world @ np.stack([x, y, z])
        return on.image_of(np.rint(plane @ places * 1000).astype(np.int32).reshape(on.size[::-1]))

    back = from_canonical(drawn(Geometry.of(to_canonical(counting_image(grid)))), grid)
    np.testing.assert_allclose(array_of(back), array_of(drawn(grid)), atol=1)


@pytest.mark.parametrize("turn", [(0, 0, 0), (45, 0, 0), (45, 45, 45), (10, -20, 33)])
def test_all_48_axis_orders_and_flips(turn: tuple[float, float, float]) -> None:
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    for signed in SIGNED_PERMUTATIONS:
        grid = replace(oblique((3, 4, 5)), direction=tuple((rotation @ signed).ravel().tolist()))
        image = counting_image(grid)
        canonical = to_canonical(image)
        back = from_canonical(canonical, grid)
        assert Geometry.of(back) == grid
        np.testing.assert_array_equal(array_of(back), array_of(image))
        if turn == (0, 0, 0):
            assert np.array_equal(np.reshape(canonical.GetDirection(), (3, 3)), np.eye(3))


def test_from_canonical_refuses_another_grid() -> None:
    grid = oblique()
    canonical = to_canonical(counting_image(grid))
    one_line(GeometryError, lambda: from_canonical(canonical[1:, :, :], grid), "size")
    canonical.SetOrigin([value + 1e-3 for value in canonical.GetOrigin()])
    one_line(GeometryError, lambda: from_canonical(canonical, grid), "origin")


# --- resampling ------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(geometries(), st.tuples(*[st.floats(0.3, 9)] * 3), st.booleans())
def test_resampling_keeps_the_extent_and_never_invents_values(
    grid: Geometry, spacing: tuple[float, float, float], is_label: bool
) -> None:
    constant = grid.image_of(np.full(grid.size[::-1], 7, np.uint8))
    result = resample_to_spacing(constant, spacing, is_label)
    new = Geometry.of(result)
    assert result.GetPixelID() == (sitk.sitkUInt8 if is_label else sitk.sitkFloat32)
    assert new.size == tuple(max(1, round(n * s / t)) for n, s, t in zip(grid.size, grid.spacing, spacing, strict=True))
    np.testing.assert_allclose(np.array(new.size) * new.spacing, np.array(grid.size) * grid.spacing, rtol=1e-12)
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    for corner in corners:
        expected = world(grid, corner * grid.size - 0.5)
        np.testing.assert_allclose(world(new, corner * new.size - 0.5), expected, atol=1e-9)
    assert (array_of(result) == 7).all()  # the edges too


def test_resampling_a_linear_ramp_is_linear_inside() -> None:
    grid = replace(oblique((16, 12, 10)), spacing=(1.0, 1.5, 2.0))
    z, y, x = np.indices(grid.size[::-1])
    ramp = (3.0 * x * 1.0 - 2.0 * y * 1.5 + 5.0 * z * 2.0).astype(np.float32)  # per mm along the grid's own axes
    result = resample_to_spacing(grid.image_of(ramp), (0.8, 1.0, 1.25), False)
    new = Geometry.of(result)
    z, y, x = ((np.indices(new.size[::-1]).T + 0.5) * new.spacing[::-1] - 0.5 * np.array(grid.spacing[::-1])).T
    expected = 3.0 * x - 2.0 * y + 5.0 * z
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(array_of(result)[inner], expected[inner], atol=1e-3)


def test_resampling_labels_gives_only_labels_and_keeps_volumes() -> None:
    grid = oblique((40, 36, 24))
    z, y, x = np.indices(grid.size[::-1])
    labels = np.zeros(grid.size[::-1], np.uint8)
    labels[((x - 5) / 12) ** 2 + ((y - 15) / 10) ** 2 + ((z - 10) / 7) ** 2 < 1] = 2  # touches the border
    labels[((x - 25) / 9) ** 2 + ((y - 20) / 12) ** 2 + ((z - 12) / 6) ** 2 < 1] = 5
    result = resample_to_spacing(grid.image_of(labels), (1.3, 0.7, 2.0), True)
    found = array_of(result)
    assert set(np.unique(found)) == {0, 2, 5}
    for value in (2, 5):
        before = (labels == value).sum() * np.prod(grid.spacing)
        assert (found == value).sum() * np.prod(result.GetSpacing()) == pytest.approx(before, rel=0.05)


def test_resampling_to_the_same_spacing_changes_nothing() -> None:
    image = counting_image(oblique())
    for is_label in (False, True):
        same = resample_to_spacing(image, image.GetSpacing(), is_label)
        assert Geometry.of(same) == oblique()
        np.testing.assert_array_equal(array_of(same), array_of(image))


def test_resampling_there_and_back_onto_the_grid() -> None:
    grid = oblique((20, 18, 16))
    z, y, x = np.indices(grid.size[::-1])
    image = grid.image_of(np.sin(x / 5) + np.cos(y / 6) + z / 16)
    back = resample_onto(resample_to_spacing(image, (0.5, 0.6, 1.0), False), grid, False)
    assert Geometry.of(back) == grid
    assert np.abs(array_of(back) - array_of(image)).max() < 0.05


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan")), (float("inf"), 1, 1)])
def test_resampling_refuses_impossible_spacing(spacing: tuple[float, float, float]) -> None:
    one_line(GeometryError, lambda: resample_to_spacing(counting_image(UNIT), spacing, False), "spacing")
    assert spacing_problem(spacing)


# --- checks and comparison -------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(geometries())
def test_every_regular_grid_passes_and_equals_itself(grid: Geometry) -> None:
    check_geometry(counting_image(grid), "scan.nrrd")
    assert difference(grid, grid) is None
    nudged = tuple(o + 1e-8 * min(grid.spacing) for o in grid.origin)
    assert difference(grid, replace(grid, origin=nudged)) is None


def test_sheared_directions_are_refused() -> None:
    image = counting_image(UNIT)
    image.SetDirection((1, 0.3, 0, 0, 1, 0, 0, 0, 1))
    one_line(GeometryError, lambda: check_geometry(image, "scan.mha"), "scan.mha", "sheared", "resample")
    image.SetDirection((2, 0, 0, 0, 1, 0, 0, 0, 1))
    one_line(GeometryError, lambda: check_geometry(image, "scan.mha"), "length 1")


def test_flat_images_are_refused() -> None:
    flat = sitk.Image(4, 4, sitk.sitkUInt8)
    one_line(GeometryError, lambda: check_geometry(flat, "slice.nrrd"), "slice.nrrd", "2 dimensions")
    one_line(GeometryError, lambda: Geometry.of(flat), "2 dimensions")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": (4, 5, 7)}, "size"),
        ({"spacing": (1.0, 1.0, 1.00001)}, "spacing"),
        ({"origin": (0.0, 0.00001, 0.0)}, "origin"),
        ({"direction": (1.0, 1e-5, 0, -1e-5, 1.0, 0, 0, 0, 1.0)}, "direction"),
    ],
)
def test_differences_are_named(change: dict[str, tuple[float, ...]], word: str) -> None:
    other = replace(UNIT, **change)
    assert (difference(UNIT, other) or "").startswith(word)
    one_line(GeometryError, lambda: require_same_grid(UNIT, other, "a.nrrd", "b.nrrd"), "a.nrrd", "b.nrrd", word)


def test_an_array_of_another_shape_is_refused() -> None:
    one_line(GeometryError, lambda: UNIT.image_of(np.zeros((4, 5, 6))), "(4, 5, 6)")


# --- pasting ---------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(geometries(), st.data())
def test_crops_and_enlargements_are_pasted_exactly(grid: Geometry, data: st.DataObject) -> None:
    """A label map cut out of (or padded around) the grid, with a header in float32, comes back voxel for voxel."""
    labels = (np.arange(np.prod(grid.size)) % 5).astype(np.uint8).reshape(grid.size[::-1])
    low = np.array(data.draw(st.tuples(*[st.integers(-3, n - 1) for n in grid.size])))
    high = np.array([data.draw(st.integers(max(0, start), n + 3)) for start, n in zip(low, grid.size, strict=True)])
    inside = np.zeros_like(labels)
    kept = tuple(slice(max(0, a), min(b + 1, n)) for a, b, n in zip(low[::-1], high[::-1], labels.shape, strict=True))
    inside[kept] = labels[kept]
    around = np.pad(inside, 8)[tuple(slice(a + 8, b + 9) for a, b in zip(low[::-1], high[::-1], strict=True))]
    origin = np.float32(world(grid, low)).tolist()
    piece = Geometry(around.shape[::-1], grid.spacing, tuple(origin), tuple(np.float32(grid.direction).tolist()))
    pasted = onto_grid(piece.image_of(around), grid)
    assert Geometry.of(pasted) == grid
    np.testing.assert_array_equal(array_of(pasted), inside)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": (0.5, 0.0, 0.0)},
        {"origin": (0.0, 0.002, 0.0)},
        {"spacing": (1.0, 1.0, 1.001)},
        {"spacing": (2.0, 2.0, 2.0)},
        {"direction": (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)},
        {"direction": (0, 1.0, 0, 1.0, 0, 0, 0, 0, 1.0)},
        {"direction": (0.999, -0.0447, 0, 0.0447, 0.999, 0, 0, 0, 1.0)},
    ],
)
def test_other_lattices_are_refused(change: dict[str, tuple[float, ...]]) -> None:
    labels = replace(UNIT, **change).image_of(np.ones((6, 5, 4), np.uint8))
    word = next(iter(change))
    one_line(GeometryError, lambda: onto_grid(labels, UNIT, "labels.nrrd"), "labels.nrrd", "does not fit", word)


def test_labels_outside_the_image_are_refused_not_lost() -> None:
    shifted = replace(UNIT, origin=(2.0, 0.0, 0.0))
    labels = shifted.image_of(np.ones((6, 5, 4), np.uint8))
    one_line(GeometryError, lambda: onto_grid(labels, UNIT, "labels.nrrd"), "60 labelled voxels")
    far = replace(UNIT, origin=(200.0, 0.0, 0.0))
    one_line(GeometryError, lambda: onto_grid(far.image_of(np.ones((6, 5, 4), np.uint8)), UNIT), "120 labelled voxels")
    assert not array_of(onto_grid(far.image_of(np.zeros((6, 5, 4), np.uint8)), UNIT)).any()
