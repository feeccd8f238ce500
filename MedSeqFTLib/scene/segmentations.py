"""Reading segmentation nodes in the terms of a task: by terminology, then by name, never by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.geometry import Geometry, bounding_grid, pasted
from MedSeqFTLib.imaging.seg_nrrd import Segment, code_of, labelled_extent
from MedSeqFTLib.imaging.segmentations import LabelMap, label_of, merge_segments, refuse_empty
from MedSeqFTLib.scene.grids import array_of, grid_from_matrix, parent_matrix
from MedSeqFTLib.scene.volumes import image_data_of, voxels_of
from MedSeqFTLib.workspace.schema import Label

BINARY = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
_LARGEST = 65535  # label value

Array = NDArray[Any]


@dataclass(frozen=True)
class Overlap:
    """Voxels that two segments share."""

    first: str
    second: str
    voxels: int


@dataclass(frozen=True)
class Findings:
    """What a segmentation holds, in the terms of a task.

    voxels: per name of a label that has a segment, even an empty one; labels that are not here are unknown.
    unknown: names of segments with voxels that mean no label of the task; they prevent a case.
    overlaps: pairs of segments that share voxels; of two labels, the one that the task lists last gets them.
    """

    voxels: dict[str, int]
    unknown: tuple[str, ...]
    overlaps: tuple[Overlap, ...]

    @property
    def is_empty(self) -> bool:
        """True if no label has a voxel."""
        return not any(self.voxels.values())


@dataclass(frozen=True)
class Drawn:
    """The segments of a node: `layers` [z, y, x] of uint8 or uint16 on `grid`, just large enough for all of them."""

    where: str
    layers: list[Array]
    segments: list[Segment]
    grid: Geometry


def segments_of(node: Any) -> list[Segment]:
    """The segments of a node in their order. Raises InputError if it is no segmentation, or has no segment."""
    _checked_segmentation(node)
    return [_segment(node, index, []) for index in range(node.GetSegmentation().GetNumberOfSegments())]


def drawn_on(node: Any, grid: Geometry) -> Drawn:
    """Copy the voxels of a segmentation node, as it lies in the world; hidden segments count like others.

    The node is not changed; closed surfaces are not looked at.

    Args:
        grid: of the segmented volume; the voxels of the segmentation must be voxels of it, or continue it.

    Raises:
        InputError: no segmentation, without segments, or not stored as a binary label map.
        GeometryError: on other voxels than `grid`, or under a non-linear transform.
    """
    where = _checked_segmentation(node)
    parent = parent_matrix(node)
    images, segments = images_of(node)
    grids = [grid_of_image(image, parent) for image in images]
    common = bounding_grid(grids or [grid], grid, where)
    layers = [pasted(label_values(image), own, common, where) for image, own in zip(images, grids, strict=True)]
    if any(segment.layer < 0 for segment in segments):
        layers.append(np.zeros(common.size[::-1], np.uint16))
    return Drawn(where, layers, with_empty_ones(segments, len(layers) - 1), common)


def images_of(node: Any) -> tuple[list[Any], list[Segment]]:
    """The vtkOrientedImageData of a segmentation node, and its segments, whose layers are places in that list.

    Segments that do not overlap share an image; those without voxels are in layer -1.
    """
    images: list[Any] = []
    segments = [_segment(node, index, images) for index in range(node.GetSegmentation().GetNumberOfSegments())]
    return images, segments


def label_map_of(drawn: Drawn, labels: Sequence[Label]) -> LabelMap:
    """One label map with the values of a task, on the grid of `drawn`.

    Raises:
        InputError: segments with voxels that the task does not know, an ambiguous one, or nothing segmented.
    """
    found = merge_segments(drawn.layers, drawn.segments, drawn.grid, labels, drawn.where)
    refuse_empty(found, drawn.where)
    return found


def voxels_to_look_at(node: Any) -> int:
    """How many voxels `findings` has to look at: a measure of the time that it takes."""
    segmentation = node.GetSegmentation()
    segments = [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]
    images = [segment.GetRepresentation(BINARY) for segment in segments]
    return sum(image.GetNumberOfPoints() for image in images if image is not None)


def refuse_outside(drawn: Drawn, volume: Geometry) -> None:
    """Raise GeometryError if labelled voxels lie outside the volume."""
    if bounding_grid([drawn.grid, volume], volume, drawn.where).size != volume.size:
        for layer in drawn.layers:
            pasted(layer, drawn.grid, volume, drawn.where)


def findings(drawn: Drawn, labels: Sequence[Label], volume: Geometry) -> Findings:
    """What is there, whether it can be accepted or not.

    Raises:
        InputError: the terminology of a segment means another label than its name.
        GeometryError: labelled voxels lie outside the volume.
    """
    voxels: dict[str, int] = {}
    unknown = []
    for segment in drawn.segments:
        mask = drawn.layers[segment.layer] == segment.value
        count = int(np.count_nonzero(mask))
        label = label_of(segment, labels, drawn.where)
        if label is not None:
            voxels[label.name] = voxels.get(label.name, 0) + count
        elif count:
            unknown.append(segment.name)
    refuse_outside(drawn, volume)
    return Findings(voxels, tuple(unknown), tuple(_overlaps(drawn)))


def _overlaps(drawn: Drawn) -> list[Overlap]:
    """Segments of one layer cannot overlap, so that only the voxels that two layers share are looked at."""
    found = []
    for one, other in combinations(range(len(drawn.layers)), 2):
        shared = (drawn.layers[one] > 0) & (drawn.layers[other] > 0)
        first, second = drawn.layers[one][shared], drawn.layers[other][shared]
        for a in (segment for segment in drawn.segments if segment.layer == one):
            counts = np.bincount(second[first == a.value], minlength=_LARGEST + 1)
            below = [segment for segment in drawn.segments if segment.layer == other and counts[segment.value]]
            found += [Overlap(a.name, b.name, int(counts[b.value])) for b in below]
    return found


def _checked_segmentation(node: Any) -> str:
    """How messages name the segmentation. Raises InputError if it cannot be read."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        raise InputError("No segmentation is selected: segment the volume, or choose its segmentation.")
    where = f"Segmentation {node.GetName()!r}"
    segmentation = node.GetSegmentation()
    if segmentation is None or not segmentation.GetNumberOfSegments():
        raise InputError(f"{where} is empty: it has no segment; draw the structures in Segment Editor first.")
    if segmentation.GetSourceRepresentationName() != BINARY:
        raise InputError(
            f"{where} is stored as {segmentation.GetSourceRepresentationName()!r}; in the module Segmentations, create "
            f"{BINARY!r} and make it the source representation."
        )
    return where


def _segment(node: Any, index: int, images: list[Any]) -> Segment:
    """A segment; its image is added to `images` unless another one brought it. Layer -1: it has no voxels."""
    identifier = node.GetSegmentation().GetNthSegmentID(index)
    segment = node.GetSegmentation().GetSegment(identifier)
    image = segment.GetRepresentation(BINARY)
    layer = -1
    if image is not None and voxels_of(image).size:
        known = [other is image for other in images]
        layer = known.index(True) if any(known) else len(images)
        images.extend([] if any(known) else [image])
    red, green, blue = segment.GetColor()
    entry = vtk.reference("")  # a tag, for Slicer 5.10 and 5.12 alike
    segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
    return Segment(
        id=identifier,
        name=segment.GetName() or identifier,
        value=segment.GetLabelValue(),
        layer=layer,
        color=(red, green, blue),
        code=code_of(str(entry.get())),
    )


def with_empty_ones(segments: Sequence[Segment], layer: int, taken: int = 0) -> list[Segment]:
    """Segments without voxels get a layer, and each a value there above those that are `taken`."""
    values = iter(range(taken + 1, _LARGEST + 1))
    return [replace(s, layer=layer, value=next(values)) if s.layer < 0 else s for s in segments]


def labelled_image(labels: NDArray[Any], first: Sequence[int] = (0, 0, 0)) -> Any:
    """A vtkOrientedImageData of an array [z, y, x], cropped to what is labelled, as Slicer keeps it.

    Args:
        first: the voxel (x, y, z) of the image that the array begins at.
    """
    extent = labelled_extent(labels)
    box = tuple(slice(low, high + 1) for low, high in reversed(extent))
    start = [offset + low for offset, (low, _) in zip(first, extent, strict=True)]
    return image_data_of(labels[box], slicer.vtkOrientedImageData, start)


def grid_of_image(image: Any, parent: NDArray[np.float64] | None = None) -> Geometry:
    """Where the voxels of a vtkOrientedImageData lie in the coordinates of its node, or in those of its `parent`."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    start = np.eye(4)
    start[:3, 3] = image.GetExtent()[0::2]
    to_world = array_of(matrix) @ start
    return grid_from_matrix(image.GetDimensions(), to_world if parent is None else parent @ to_world)


def label_values(image: Any) -> Array:
    """The voxels in at most the 16 bits of a label value; what does not fit belongs to no segment. May share memory."""
    voxels = voxels_of(image)
    return voxels if voxels.dtype == np.uint8 else np.clip(voxels, 0, _LARGEST).astype(np.uint16)
