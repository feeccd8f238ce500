"""Real segmentation nodes of 3D Slicer's own core (the slicer-core wheel), to check our files against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaging_samples import oblique
from numpy.typing import NDArray

from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.workspace.schema import Code

slicer = pytest.importorskip(
    "slicer", reason="slicer-core is not installed, so Slicer cannot read or write anything here"
)
if not hasattr(slicer, "vtkMRMLScene"):
    pytest.skip("the installed `slicer` is not slicer-core", allow_module_level=True)

import vtk  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MASTER = "Binary labelmap"
GRID = oblique((14, 12, 10))
SHAPE = GRID.size[::-1]
ARTERY = Code(scheme="SCT", value="51114001", meaning="Artery")
VEIN = Code(scheme="SCT", value="29092000", meaning="Vein")


def box(*bounds: tuple[int, int], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Voxels from..to along z, y, x."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*bound) for bound in bounds)] = True
    return mask


ARTERY_MASK = box((2, 5), (3, 8), (4, 9))
VEIN_MASK = box((4, 7), (5, 9), (6, 11))  # overlaps the artery in 1 * 3 * 3 voxels
TUMOUR_MASK = box((8, 9), (10, 11), (1, 3))


@dataclass(frozen=True)
class SegmentInSlicer:
    """A segment as Slicer holds it; `mask` [z, y, x] on the whole grid."""

    name: str
    color: tuple[float, float, float]
    terminology: str
    value: int
    mask: NDArray[np.bool_]
    ijk_to_ras: NDArray[np.float64]


def ijk_to_ras(grid: Geometry) -> NDArray[np.float64]:
    """[4, 4], as Slicer wants it."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = grid.index_to_world, grid.origin
    return LPS_TO_RAS @ matrix


def vtk_matrix(matrix: NDArray[np.float64]) -> Any:
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(matrix.ravel().tolist())
    return result


class SlicerScene:
    """A scene with one segmentation node, as the Segmentations module sets it up."""

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.logic = slicer.vtkSlicerSegmentationsModuleLogic()  # registers the conversion rules
        self.logic.SetMRMLScene(self.scene)
        self.node = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
        self.segmentation = self.node.GetSegmentation()

    def add(
        self,
        grid: Geometry,
        mask: NDArray[np.bool_],
        name: str,
        color: tuple[float, float, float],
        terminology: str = "",
    ) -> str:
        """Add a segment drawn as `mask` [z, y, x]; returns its id."""
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(*grid.size)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel()
        image.SetImageToWorldMatrix(vtk_matrix(ijk_to_ras(grid)))
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.SetColor(*color)
        if terminology:
            segment.SetTerminology(terminology)
        segment.AddRepresentation(MASTER, image)
        identifier = self.segmentation.GenerateUniqueSegmentID(name)
        assert self.segmentation.AddSegment(segment, identifier)
        return str(identifier)

    def collapse(self) -> None:
        """Put segments that do not overlap into shared layers, as the Segment Editor does."""
        self.segmentation.CollapseBinaryLabelmaps(False)

    def write(self, path: Path) -> None:
        assert self._storage(path).WriteData(self.node)

    def read(self, path: Path) -> None:
        assert self._storage(path).ReadData(self.node)

    def _storage(self, path: Path) -> Any:
        storage = slicer.vtkMRMLSegmentationStorageNode()
        self.scene.AddNode(storage)
        storage.SetFileName(str(path))
        return storage

    def segments(self, grid: Geometry) -> Iterator[SegmentInSlicer]:
        """What the node holds now, on a grid of the size of `grid`."""
        for index in range(self.segmentation.GetNumberOfSegments()):
            segment = self.segmentation.GetNthSegment(index)
            image = segment.GetRepresentation(MASTER)
            x0, x1, y0, y1, z0, z1 = image.GetExtent()
            values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(z1 - z0 + 1, y1 - y0 + 1, x1 - x0 + 1)
            mask = np.zeros(grid.size[::-1], bool)
            mask[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1] = values == segment.GetLabelValue()
            matrix = vtk.vtkMatrix4x4()
            image.GetImageToWorldMatrix(matrix)
            elements = [[matrix.GetElement(i, j) for j in range(4)] for i in range(4)]
            yield SegmentInSlicer(
                name=segment.GetName(),
                color=segment.GetColor(),
                terminology=segment.GetTerminology(),
                value=segment.GetLabelValue(),
                mask=mask,
                ijk_to_ras=np.array(elements),
            )


def write_volume_in_slicer(path: Path, grid: Geometry, array: NDArray[np.int16]) -> None:
    """Let Slicer write `array` [z, y, x] as a scalar volume."""
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Volume")
    image = vtk.vtkImageData()
    image.SetDimensions(*grid.size)
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = array.ravel()
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(vtk_matrix(ijk_to_ras(grid)))
    storage = slicer.vtkMRMLNRRDStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.WriteData(node)


def by_name(segments: Iterator[SegmentInSlicer]) -> Mapping[str, SegmentInSlicer]:
    return {segment.name: segment for segment in segments}
