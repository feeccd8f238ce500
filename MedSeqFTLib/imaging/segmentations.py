"""Reading and writing label maps and .seg.nrrd of 3D Slicer, with the label values of a task. Arrays are [z, y, x]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.geometry import Geometry, check_geometry, onto_grid
from MedSeqFTLib.imaging.seg_nrrd import Segment, describe_segments, read_segments
from MedSeqFTLib.imaging.volumes import read_image_file, write_image, write_volume
from MedSeqFTLib.workspace.schema import Label

SEG_NRRD = ".seg.nrrd"
_LARGEST = 65535  # label value in a file
_MOST_LAYERS = 512  # each takes tables

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LabelMap:
    """A reference segmentation in the terms of a task.

    image: uint8 with the task's pinned values; 0 is background or unknown.
    overlap_voxels: voxels that segments of more than one label claimed; the label that the task lists last got them.
    found: names of the task's labels that the file speaks of: that have a segment, even an empty one, or (in a plain
        label map) a voxel. A label that is not here is unknown in this case, not absent.
    """

    image: sitk.Image
    overlap_voxels: int
    found: tuple[str, ...]

    def spoken_of(self, labels: Sequence[Label]) -> tuple[Label, ...]:
        """Those of the task's labels that are found here."""
        return tuple(label for label in labels if label.name in self.found)


def read_label_map(
    path: Path | str, labels: Sequence[Label], grid: Geometry | None = None, *, may_be_empty: bool = False
) -> LabelMap:
    """Read a segmentation of a task.

    Segments of a .seg.nrrd are matched by terminology code, then by name (ignoring case), never by value. Other files
    are plain label maps and matched by value.

    Args:
        path: .seg.nrrd, or a label map as NRRD, NIfTI or MetaImage.
        labels: the task's labels.
        grid: of the segmented image. The result is pasted onto exactly this grid; without it, the file's grid is kept.
        may_be_empty: do not refuse a segmentation without a labelled voxel.

    Raises:
        InputError: unreadable, not a label map, labels that the task does not know, or nothing segmented.
        GeometryError: an unusable grid, or one that does not fit `grid`.
    """
    path = Path(path)
    where = str(path)
    image = read_image_file(path)
    segments = read_segments(image, where)
    layers, base = layers_of(image, where)
    if segments or path.name.lower().endswith(SEG_NRRD):
        found = merge_segments(layers, segments, base, labels, where)
    else:
        found = _merged(layers, *_value_table(layers, labels, where), base, labels)
    if not may_be_empty:
        refuse_empty(found, where)
    return replace(found, image=onto_grid(found.image, grid, where)) if grid else found


def merge_segments(
    layers: Sequence[Array], segments: Sequence[Segment], grid: Geometry, labels: Sequence[Label], where: str
) -> LabelMap:
    """Put segments into one label map with the values of a task.

    Args:
        layers: [z, y, x] of unsigned integers up to 65535, all on `grid`.
        segments: each is the voxels of one value in one layer.
        where: names the segmentation in messages.

    Raises:
        InputError: segments with voxels that the task does not know.
    """
    return _merged(layers, *_segment_tables(layers, segments, labels, where), grid, labels)


def refuse_empty(found: LabelMap, where: str) -> None:
    """Raise InputError if no voxel is labelled."""
    if not sitk.GetArrayViewFromImage(found.image).any():
        raise InputError(
            f"{where} is an empty segmentation: no voxel is labelled; segment something, or leave the case out."
        )


def _merged(
    layers: Sequence[Array],
    tables: Sequence[Array],
    found: Sequence[Label],
    grid: Geometry,
    labels: Sequence[Label],
) -> LabelMap:
    merged, overlap = _merge(layers, tables, np.array([0, *(label.value for label in labels)], dtype=np.uint8))
    return LabelMap(grid.image_of(merged), overlap, tuple(label.name for label in labels if label in found))


def write_seg_nrrd(image: sitk.Image, labels: Sequence[Label], path: Path | str, *, quick: bool = False) -> None:
    """Write a label map as 3D Slicer writes a segmentation, atomically: one segment per label, empty ones too.

    Args:
        image: 3D label map whose values are those of `labels`, or 0.
        labels: those that the segmentation speaks of; leave out the ones that are unknown in this case.
        path: ends with .seg.nrrd.
        quick: see `MedSeqFTLib.imaging.volumes.write_image`.

    Raises:
        InputError: another ending, values without a label, or a code that the format cannot hold.
        StorageError: the write failed; an earlier file of this name is untouched.
    """
    path = Path(path)
    if not path.name.lower().endswith(SEG_NRRD):
        raise InputError(f"Cannot write {path}: the name of a segmentation must end with {SEG_NRRD}.")
    plain = _label_image(image, labels, str(path))
    describe_segments(plain, labels)
    write_image(plain, path, quick=quick)


def write_label_map(image: sitk.Image, path: Path | str, within: Path | None = None) -> None:
    """Write a label map (values 0 to 255) as a plain uint8 volume, atomically; `within` as of `atomic_path`.

    Raises:
        InputError: values that do not fit, or a file name that promises something else.
        StorageError: the write failed; an earlier file of this name is untouched.
    """
    path = Path(path)
    if path.name.lower().endswith(SEG_NRRD):
        raise InputError(
            f"Cannot write {path}: {SEG_NRRD} is for segmentations with names; end the name with .nrrd or .nii.gz."
        )
    write_volume(_uint8_image(image, str(path)), path, within)


def _label_image(image: sitk.Image, labels: Sequence[Label], where: str) -> sitk.Image:
    plain = _uint8_image(image, where)
    known = {0, *(label.value for label in labels)}
    if unknown := _values(sitk.GetArrayViewFromImage(plain)) - known:
        raise InputError(
            f"Cannot write {where}: values {_listed(unknown)} belong to none of its labels {_names(labels)}."
        )
    return plain


def _uint8_image(image: sitk.Image, where: str) -> sitk.Image:
    """A copy of a label map as uint8, without metadata."""
    check_geometry(image, where)
    array = _whole_numbers(sitk.GetArrayViewFromImage(image), where)
    if array.max(initial=0) > 255:
        raise InputError(f"{where}: label values go up to 255, here is {array.max()}.")
    return Geometry.of(image).image_of(np.asarray(array, np.uint8))


def layers_of(image: sitk.Image, where: str) -> tuple[list[Array], Geometry]:
    """The layers [z, y, x] of a 3D image, of a vector image or of a 4D one (layers last), and their grid."""
    array = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    layers = array if array.ndim == 4 else array[np.newaxis]
    if len(layers) > _MOST_LAYERS:
        raise InputError(f"{where} has {len(layers)} layers; a segmentation has at most {_MOST_LAYERS}.")
    grid = image[..., 0] if image.GetDimension() == 4 else image
    check_geometry(grid, where)
    return [_whole_numbers(layer, where) for layer in layers], Geometry.of(grid)


def _whole_numbers(array: Array, where: str) -> Array:
    """The array as uint16, or as it is if it is uint8. Raises InputError if that would change a value."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "fiu":
        raise InputError(f"{where} is not a label map: its voxels are complex.")
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise InputError(f"{where} is not a label map: it has values that are not whole numbers.")
    if array.size and not 0 <= array.min() <= array.max() <= _LARGEST:
        raise InputError(
            f"{where} is not a label map: it has values from {array.min()} to {array.max()}, not 0 to {_LARGEST}."
        )
    return array.astype(np.uint16)


def _segment_tables(
    layers: Sequence[Array], segments: Sequence[Segment], labels: Sequence[Label], where: str
) -> tuple[list[Array], list[Label]]:
    """Per layer a table value -> 1 + the label's place in `labels`, and the labels that have a segment."""
    tables = [np.zeros(_LARGEST + 1, dtype=np.uint8) for _ in layers]
    unexplained = [_values(layer) - {0} for layer in layers]
    unknown: list[str] = []
    found: list[Label] = []
    _check_places(segments, len(layers), where)
    for segment in segments:
        label = label_of(segment, labels, where)
        if label:
            tables[segment.layer][segment.value] = 1 + list(labels).index(label)
            found.append(label)
        elif segment.value in unexplained[segment.layer]:
            unknown.append(segment.name)
        unexplained[segment.layer].discard(segment.value)
    if unknown:
        raise InputError(
            f"{where} has segments {unknown} that the task does not know; "
            f"it knows {_names(labels)}: rename or delete them."
        )
    if rest := set().union(*unexplained):
        raise InputError(
            f"{where} has voxels with values {_listed(rest)} that belong to no segment; save it again from 3D Slicer."
        )
    return tables, found


def _check_places(segments: Sequence[Segment], layers: int, where: str) -> None:
    """Refuse segments that have no voxels of their own to point at."""
    taken: set[tuple[int, int]] = set()
    for segment in segments:
        place = (segment.layer, segment.value)
        if place in taken or not 0 <= segment.layer < layers or not 0 < segment.value <= _LARGEST:
            raise InputError(
                f"{where}: segment {segment.name!r} has value {segment.value} in layer {segment.layer} of {layers}, "
                "which cannot be or belongs to another segment; save it again from 3D Slicer."
            )
        taken.add(place)


def label_of(segment: Segment, labels: Sequence[Label], where: str) -> Label | None:
    """The label of a task that a segment means: by terminology code, then by name; None if there is none.

    Raises:
        InputError: code and name mean different labels, or the code fits several and the name none of them.
    """
    named = [label for label in labels if _same(label.name, segment.name)]
    coded = [
        label
        for label in labels
        if label.code and segment.code and _key(label) == (segment.code.scheme, segment.code.value)
    ]
    fitting = [label for label in coded if label in named] or coded or named
    if (coded and named and named[0] not in coded) or len(fitting) > 1:
        raise InputError(
            f"{where}: segment {segment.name!r} has the terminology code of {_names(coded)}; "
            "correct its name or its terminology so that both mean one label."
        )
    return fitting[0] if fitting else None


def _value_table(layers: list[Array], labels: Sequence[Label], where: str) -> tuple[list[Array], list[Label]]:
    """As `_segment_tables`, for a plain label map."""
    if len(layers) > 1:
        raise InputError(f"{where} has {len(layers)} values per voxel or time points; a label map has one.")
    table = np.zeros(_LARGEST + 1, dtype=np.uint8)
    for place, label in enumerate(labels):
        table[label.value] = 1 + place
    present = _values(layers[0])
    if unknown := present - {0, *(label.value for label in labels)}:
        known = ", ".join(f"{label.value} {label.name!r}" for label in labels)
        raise InputError(f"{where} has label values {_listed(unknown)} that the task does not know; it knows {known}.")
    return [table], [label for label in labels if label.value in present]


def _merge(layers: Sequence[Array], tables: Sequence[Array], values: Array) -> tuple[Array, int]:
    """One label map [z, y, x] of `values`, and how many voxels several labels claimed; by planes, to spare memory."""
    merged = np.zeros(layers[0].shape, dtype=np.uint8)
    overlap = 0
    if len(layers) == 1:  # nothing can overlap: one look-up
        table = values[tables[0]]
        for plane, source in zip(merged, layers[0], strict=True):
            plane[:] = table[source]
        return merged, overlap
    for z, plane in enumerate(merged):
        places = np.stack([table[layer[z]] for layer, table in zip(layers, tables, strict=True)])
        highest = places.max(axis=0)
        overlap += int(np.count_nonzero(((places != 0) & (places != highest)).any(axis=0)))
        plane[:] = values[highest]
    return merged, overlap


def _values(array: Array) -> set[int]:
    """The values that occur in an array [z, y, x] of unsigned integers."""
    present = np.zeros(_LARGEST + 1, dtype=bool)
    for plane in array:
        present[plane] = True
    return set(np.flatnonzero(present).tolist())


def _same(a: str, b: str) -> bool:
    return a.strip().casefold() == b.strip().casefold()


def _key(label: Label) -> tuple[str, str] | None:
    return (label.code.scheme, label.code.value) if label.code else None


def _names(labels: Sequence[Label]) -> str:
    return "[" + ", ".join(repr(label.name) for label in labels) + "]"


def _listed(values: set[int]) -> str:
    shown = sorted(values)[:8]
    return ", ".join(map(str, shown)) + (", ..." if len(values) > len(shown) else "")
