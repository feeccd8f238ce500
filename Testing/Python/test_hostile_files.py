"""Files made to do harm, one test for each fault that Testing/Fuzzing found: refused in one line, at once."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import workspace_samples as samples
from imaging_samples import oblique, one_line, write_meta, write_nifti, write_nrrd
from test_dicom import write_series

from MedSeqFTLib.errors import GeometryError, InputError, WorkspaceError
from MedSeqFTLib.imaging.decathlon import read_data_set
from MedSeqFTLib.imaging.dicom_lengths import check_lengths
from MedSeqFTLib.imaging.segmentations import read_label_map
from MedSeqFTLib.imaging.volumes import read_volume, write_volume
from MedSeqFTLib.models.checkpoints import read_checkpoint
from MedSeqFTLib.models.weights import BACKBONE, load_backbone, save_module
from MedSeqFTLib.workspace.files import check_sha256, write_json
from MedSeqFTLib.workspace.networks import ResidualUNetDescription
from MedSeqFTLib.workspace.schema import Segmentation
from MedSeqFTLib.workspace.segmentations import segmentations
from MedSeqFTLib.workspace.workspace import Workspace

AXES = "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)"


def nrrd(path: Path, *changes: tuple[str, str], data: bytes | None = None) -> Path:
    """A valid file of 4x5x6 int16 with replacements in its header, and other data."""
    head, mark, voxels = write_nrrd(path, AXES).read_bytes().partition(b"\n\n")
    for old, new in changes:
        assert old.encode() in head
        head = head.replace(old.encode(), new.encode("utf-8", "surrogateescape"))
    path.write_bytes(head + mark + (voxels if data is None else data))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("endian: little", "endian: little" + "x" * 1000, "no field"),  # ITK crashes
        ("endian: little", "endian: little\n" + "1 " * 1000, "no field"),  # ITK crashes
        ("endian: little", "# a remark\r" + "1 " * 1000 + "\nendian: little", "a line of it is broken"),  # as above
        ("endian: little", "endian: little\nsizes: 9 9 9", "twice"),
        ("endian: little", "endian: little\na\udcffb:=c", "a key"),  # SimpleITK cannot take it away
        ("sizes: 4 5 6", "sizes: 4 5 2147483647", "incomplete"),
        ("sizes: 4 5 6", "sizes: 4 5 -6", "not the size of an image"),
        ("sizes: 4 5 6", "sizes: 4 5 " + "9" * 500, "not the size of an image"),
        ("encoding: raw", "encoding: bzip2", "cannot be read"),
        ("endian: little", "endian: little\ndata file: /etc/hostname", "only one file in the folder"),
        ("endian: little", "endian: little\ndata file: ../scan.raw", "only one file in the folder"),
        ("endian: little", "endian: little\ndata file: LIST", "only one file in the folder"),
        ("endian: little", "endian: little\ndata file: scan%03d.raw 1 9 1", "only one file in the folder"),
    ],
)
def test_nrrd_headers(tmp_path: Path, old: str, new: str, message: str) -> None:
    one_line(InputError, lambda: read_volume(nrrd(tmp_path / "a.nrrd", (old, new))), message)


def test_a_packed_file_that_would_fill_the_memory(tmp_path: Path) -> None:
    packed = zlib.compressobj(9, wbits=31)
    data = packed.compress(bytes(1000)) + packed.flush()
    changes = ("sizes: 4 5 6", "sizes: 2000 2000 2000"), ("encoding: raw", "encoding: gzip")
    one_line(InputError, lambda: read_volume(nrrd(tmp_path / "a.nrrd", *changes, data=data)), "claims 15258 MiB")


def test_an_empty_label_map_of_a_whole_body_is_no_bomb(tmp_path: Path) -> None:
    """It unfolds almost a thousand times."""
    image = sitk.Image(512, 512, 400, sitk.sitkUInt8)
    write_volume(image, tmp_path / "a.nrrd")
    assert read_volume(tmp_path / "a.nrrd").GetSize() == (512, 512, 400)


def test_nifti_claims(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii")
    data = bytearray(path.read_bytes())
    struct.pack_into("<8h", data, 40, 3, 32767, 32767, 32767, 1, 1, 1, 1)
    path.write_bytes(data)
    one_line(InputError, lambda: read_volume(path), "incomplete")
    struct.pack_into("<2h", data, 70, 64, 1)  # double, but one bit a voxel
    struct.pack_into("<8h", data, 40, 3, 32, 5, 6, 1, 1, 1, 1)
    path.write_bytes(data)
    one_line(InputError, lambda: read_volume(path), "incomplete")


def test_meta_claims(tmp_path: Path) -> None:
    for old, new, message in (
        ("DimSize = 4 5 6", "DimSize = 4 5 99999", "incomplete"),
        ("DimSize = 4 5 6", "DimSize = 4 5 6\nDimSize = 4 5 6", "twice"),
        ("LOCAL", "../../secret.raw", "only one file in the folder"),
    ):
        path = write_meta(tmp_path / "a.mha", "ElementSpacing = 1 1 1")
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
        one_line(InputError, lambda path=path: read_volume(path), message)  # type: ignore[misc]


def test_a_segmentation_of_very_many_layers_or_segments(tmp_path: Path) -> None:
    layers = sitk.GetImageFromArray(np.zeros((2, 2, 2, 600), np.uint8), isVector=True)
    sitk.WriteImage(layers, str(tmp_path / "a.seg.nrrd"))
    labels = samples.a_task().labels
    one_line(InputError, lambda: read_label_map(tmp_path / "a.seg.nrrd", labels), "600 layers")
    names = "".join(f"\nSegment{n}_ID:=S{n}\nSegment{n}_LabelValue:={n + 1}" for n in range(3000))
    start = time.process_time()
    path = nrrd(tmp_path / "b.seg.nrrd", ("endian: little", "endian: little" + names))
    one_line(InputError, lambda: read_label_map(path, labels), "cannot be or belongs to another")
    assert time.process_time() - start < 2


def test_a_dicom_element_that_claims_gigabytes(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    path = sorted(folder.iterdir())[0]
    whole = path.read_bytes()
    check_lengths(path)
    place = whole.index(b"OB", 132) + 4
    path.write_bytes(whole[:place] + struct.pack("<I", 0x7FFFFFFF) + whole[place + 4 :])
    one_line(InputError, lambda: read_volume(folder), "claims 2147483647 bytes")
    position = whole.index(b"10\\20")
    path.write_bytes(whole[:position] + b"\x7f" + whole[position + 1 :])
    one_line(GeometryError, lambda: read_volume(folder), "states its place wrongly")


@pytest.mark.parametrize("target", ["file", "folder"])
def test_a_link_out_of_a_data_set_is_not_followed(tmp_path: Path, target: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "data"
    outside.mkdir(), folder.mkdir()
    (outside / "a.nii.gz").write_bytes(b"secret")
    (folder / "imagesTr").symlink_to(outside) if target == "folder" else (folder / "imagesTr").mkdir()
    if target == "file":
        (folder / "imagesTr" / "a.nii.gz").symlink_to(outside / "a.nii.gz")
    described = '{"modality": {"0": "CT"}, "labels": {"0": "b", "1": "liver"}, "training": [%s]}'
    entry = '{"image": "imagesTr/a.nii.gz", "label": "imagesTr/a.nii.gz"}'
    (folder / "dataset.json").write_text(described % entry, encoding="utf-8")
    one_line(InputError, lambda: read_data_set(folder), "is a link to", "outside the folder")


def test_a_declared_hash_with_a_line_break(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    one_line(WorkspaceError, lambda: check_sha256(tmp_path / "a", "0\n1"), "expected 01...")


def test_versions_in_a_ring(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    weights = samples.weights_folder(tmp_path / "weights")
    version = workspace.publish(samples.a_version("M0", weights, None), weights)
    write_json(workspace.version_folder("M0") / "version.json", version.model_copy(update={"parent": "M0"}))
    one_line(WorkspaceError, lambda: Workspace.open(workspace.folder).versions(), "no older version")


def test_a_version_without_the_plan_that_it_needs(tmp_path: Path) -> None:
    version = samples.a_version("M0", samples.weights_folder(tmp_path / "weights"))
    one_line(WorkspaceError, lambda: version.plan("brain"), "no plan of task brain")


def test_the_record_of_another_segmentation(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    workspace.add_task(samples.a_task())
    record = Segmentation(
        name="scan", task="brain", version="MX", reading="per-task", source_image="a", pixel_sha256="0",
        segmentation_sha256="0", size=(1, 1, 1), spacing=(1, 1, 1), label_voxels={},
    )  # fmt: skip
    path = workspace.folder / "segmentations" / "brain" / "scan" / "M1"
    path.mkdir(parents=True)
    write_json(path / "segmentation.json", record)
    one_line(WorkspaceError, lambda: segmentations(workspace, "brain"), "it says version 'MX'")


@pytest.mark.parametrize("name", ["builtins", "__builtin__"])
def test_a_pickle_that_asks_for_gigabytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(b"\x80\x02c" + name.encode() + b"\nbytearray\n(J\0\0\0\x60tR.")
    one_line(InputError, lambda: read_checkpoint(path), "bytearray", "fill its memory")


def test_a_version_that_declares_a_network_of_terabytes(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    (tmp_path / "parts").mkdir()
    save_module(torch.nn.Linear(2, 2), tmp_path / "parts" / BACKBONE)
    huge = {"network": ResidualUNetDescription(channels=(16_384, 16_384))}
    version = samples.a_version("M0", tmp_path / "parts", None).model_copy(update=huge)
    workspace.publish(version, tmp_path / "parts")
    one_line(WorkspaceError, lambda: load_backbone(workspace, version), "bytes of parameters")


def test_the_same_grid_is_still_read(tmp_path: Path) -> None:
    image = oblique().image_of(np.zeros(oblique().size[::-1], np.int16))
    for name in ("a.nrrd", "a.nii.gz", "a.mha"):
        write_volume(image, tmp_path / name)
        assert read_volume(tmp_path / name).GetSize() == oblique().size
