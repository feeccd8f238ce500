"""Readers of images: NRRD, .seg.nrrd, NIfTI, MetaImage, folders of DICOM slices."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from mutations import header_then_bytes, mutated_bytes, within_gzip
from samples import Reader, Sample, files_below

from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.imaging.segmentations import read_label_map, write_seg_nrrd
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.workspace.schema import Code, Label

LABELS = (
    Label(value=1, name="grey matter", color=(1, 0, 0), code=Code(scheme="SCT", value="1", meaning="grey")),
    Label(value=4, name="white matter", color=(0, 1, 0)),
)
GRID = Geometry((5, 4, 3), (0.8, 0.9, 2.0), (1.0, -2.0, 3.5), (0, 1, 0, 1, 0, 0, 0, 0, -1))


def _scan(kind: str) -> sitk.Image:
    return GRID.image_of(sitk.GetArrayFromImage(_labelled()).astype(kind))


def _labelled() -> sitk.Image:
    return GRID.image_of(np.array([0, 1, 4], np.uint8)[np.arange(60).reshape(3, 4, 5) % 3])


def _nrrd(folder: Path) -> Sequence[Sample]:
    header = header_then_bytes(b"\n\n")
    for number, (kind, packed) in enumerate((("int16", False), ("float32", True), ("uint8", False))):
        sitk.WriteImage(_scan(kind), str(folder / f"{number}.nrrd"), useCompression=packed)
    sitk.WriteImage(_scan("int16"), str(folder / "detached.nhdr"))
    text = _scan("uint8")
    head = (folder / "2.nrrd").read_bytes().partition(b"\n\n")[0].replace(b"encoding: raw", b"encoding: ascii")
    words = head + b"\n\n" + b" ".join(str(v).encode() for v in sitk.GetArrayViewFromImage(text).ravel())
    files = [(folder / f"{number}.nrrd").read_bytes() for number in range(3)]
    single = [Sample({"scan.nrrd": data}, ("scan.nrrd",), header, "scan.nrrd") for data in (*files, words)]
    detached = {name: data for name, data in files_below(folder).items() if name.startswith("detached")}
    return [*single, Sample(detached, ("detached.nhdr",), header_then_bytes(b"\n\n"), "detached.nhdr")]


def _seg_nrrd(folder: Path) -> Sequence[Sample]:
    header = header_then_bytes(b"\n\n")
    write_seg_nrrd(_labelled(), LABELS, folder / "a.seg.nrrd")
    write_seg_nrrd(_labelled(), LABELS, folder / "b.seg.nrrd", quick=True)
    array = sitk.GetArrayFromImage(_labelled())
    layers = sitk.GetImageFromArray(np.stack([array == 1, array == 4], -1).astype(np.uint8), isVector=True)
    GRID.copy_to(layers)
    for index, label in enumerate(LABELS):
        fields = {"ID": f"S{index}", "Name": label.name, "LabelValue": "1", "Layer": str(index), "Color": "1 0 0"}
        for field, value in fields.items():
            layers.SetMetaData(f"Segment{index}_{field}", value)
    sitk.WriteImage(layers, str(folder / "c.seg.nrrd"))
    names = ("a", "b", "c")
    return [
        Sample({"s.seg.nrrd": (folder / f"{name}.seg.nrrd").read_bytes()}, ("s.seg.nrrd",), header, "s.seg.nrrd")
        for name in names
    ]


def _nifti(folder: Path) -> Sequence[Sample]:
    found = []
    for kind in ("int16", "float32", "uint8"):
        sitk.WriteImage(_scan(kind), str(folder / f"{kind}.nii"))
        data = (folder / f"{kind}.nii").read_bytes()
        found.append(Sample({"scan.nii": data}, ("scan.nii",), mutated_bytes, "scan.nii"))
        packed = {"scan.nii.gz": gzip.compress(data)}
        found.append(Sample(packed, ("scan.nii.gz",), within_gzip(mutated_bytes), "scan.nii.gz"))
    return found


def _meta(folder: Path) -> Sequence[Sample]:
    header = header_then_bytes(b"ElementDataFile = LOCAL\n")
    found = []
    for number, (kind, packed) in enumerate((("int16", False), ("float32", True))):
        sitk.WriteImage(_scan(kind), str(folder / f"{number}.mha"), useCompression=packed)
        found.append(Sample({"scan.mha": (folder / f"{number}.mha").read_bytes()}, ("scan.mha",), header, "scan.mha"))
    sitk.WriteImage(_scan("int16"), str(folder / "two.mhd"))
    both = {name: (folder / name).read_bytes() for name in ("two.mhd", "two.raw")}
    return [*found, Sample(both, ("two.mhd",), header_then_bytes(b"\n\n"), "two.mhd")]


def _dicom(folder: Path) -> Sequence[Sample]:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(2):
        image = sitk.GetImageFromArray((np.arange(20, dtype=np.int16) + 100 * number).reshape(4, 5))
        image.SetSpacing((0.8, 0.9))
        tags = {
            "0008|0060": "MR", "0010|0010": "NOBODY", "0020|000d": "1.2.3", "0020|000e": "1.2.4", "0020|0052": "1.2.9",
            "0008|0018": f"1.2.4.{number + 1}", "0020|0013": str(number + 1), "0018|0050": "2.5",
            "0020|0032": f"10\\20\\{2.5 * number}", "0020|0037": "1\\0\\0\\0\\1\\0", "0008|103e": "T1",
        }  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(image)
    files = {f"series/{name}": data for name, data in files_below(folder).items()}
    return [Sample(files, tuple(files), mutated_bytes, "series")]


def _read_volume(folder: Path, sample: Sample) -> None:
    read_volume(folder / sample.note)


READERS = (
    Reader("NRRD", _nrrd, _read_volume),
    Reader(".seg.nrrd", _seg_nrrd, lambda folder, sample: read_label_map(folder / sample.note, LABELS, GRID)),
    Reader("NIfTI", _nifti, _read_volume),
    Reader("NIfTI label map", _nifti, lambda folder, sample: read_label_map(folder / sample.note, LABELS)),
    Reader("MetaImage", _meta, _read_volume),
    Reader("DICOM series", _dicom, _read_volume),
)
