"""Data sets in nnU-Net's raw layout, version 2: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz.

The layout is told in nnU-Net's documentation, dataset_format.md. Its optional field `dataset`, which names the files of
every case, is read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.dataset_json import CaseFiles, Description, Layout

_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


def is_nnunet(description: Description) -> bool:
    """True if dataset.json has a field that only nnU-Net's second version has."""
    return "channel_names" in description.fields or "file_ending" in description.fields


def _labels(description: Description) -> dict[int, str]:
    declared, path = description.fields.get("labels"), description.path
    if not isinstance(declared, dict):
        raise InputError(f'{path}: \'labels\' must map names to values, such as {{"background": 0, "liver": 1}}.')
    found: dict[int, str] = {}
    for name, value in declared.items():
        if isinstance(value, list):
            raise InputError(
                f"{path}: label {name!r} is a region of the values {value}; region-based training is not supported: "
                "give every label one value."
            )
        if type(value) is not int:  # True is no value
            raise InputError(f"{path}: label {name!r} must have a whole number as its value, got {value!r}.")
        if value in found:
            raise InputError(f"{path}: label value {value} is declared twice.")
        found[value] = name
    if found.get(0) != "background":
        raise InputError(f"{path}: 'labels' must have \"background\": 0, got {found.get(0)!r} for the value 0.")
    if "ignore" in declared:
        raise InputError(f"{path}: the label 'ignore' (voxels that nobody labelled) is not supported.")
    return found


def _cases(description: Description) -> Iterator[CaseFiles]:
    ending, count = (description.fields.get(field) for field in ("file_ending", "numTraining"))
    if ending not in _ENDINGS:
        raise InputError(
            f"{description.path}: files with the 'file_ending' {ending!r} cannot be read; "
            f"one of {', '.join(_ENDINGS)} is expected."
        )
    cases = list(_listed(description) if "dataset" in description.fields else _found(description, ending))
    if count != len(cases):
        raise InputError(f"{description.path}: 'numTraining' is {count!r}, but there are {len(cases)} training cases.")
    yield from cases


def _found(description: Description, ending: str) -> Iterator[CaseFiles]:
    """The cases in imagesTr by name. Hidden files are passed over: macOS leaves ._NAME beside NAME."""
    images, label_maps = (description.path.parent / name for name in ("imagesTr", "labelsTr"))
    try:
        names = sorted(entry.name for entry in images.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"Cannot read {images}: {error.strerror or error}.") from error
    names = [name for name in names if name.endswith(ending)]
    if not names:
        raise InputError(f"{images} has no image; names such as CASE_0000{ending} are expected.")
    for name in names:
        parts = re.fullmatch(r"(.+)_([0-9]{4})", name.removesuffix(ending))
        if parts is None:
            raise InputError(f"{images / name} must have a name such as CASE_0000{ending}.")
        case, channel = parts.groups()
        if channel != "0000":
            raise InputError(f"{images / name} is another channel of its case; one channel, _0000, is expected.")
        files = images / name, label_maps / f"{case}{ending}"
        for file in files:
            description.inside(file, f"{file} of the case {case}")
        yield case, *files


def _listed(description: Description) -> Iterator[CaseFiles]:
    """The cases that the field `dataset` lists."""
    entries, path = description.fields["dataset"], description.path
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path}: 'dataset' must map the names of cases to their 'images' and 'label'.")
    for case, entry in entries.items():
        where = f"case {case!r} of 'dataset'"
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or len(images) != 1:
            raise InputError(f"{path}: {where} must have one file in 'images', one for each channel, got {images!r}.")
        yield case, description.file(images[0], "images", where), description.file(entry.get("label"), "label", where)


NNUNET = Layout("channel_names", _labels, _cases)
