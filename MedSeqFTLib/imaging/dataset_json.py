"""dataset.json, which describes a data set: what the Decathlon's layout and nnU-Net's have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.names import inner_path
from MedSeqFTLib.workspace.schema import Modality

_NAME = "dataset.json"
_MR_CHANNELS = ("mr", "mri", "t1", "t1w", "t2", "t2w", "flair", "adc", "dwi")
_MODALITIES = {"ct": Modality.CT, **dict.fromkeys(_MR_CHANNELS, Modality.MR)}

#: A case as a layout tells of it: its name, its image, its label map. Both files exist.
CaseFiles = tuple[str, Path, Path]


@dataclass(frozen=True)
class Description:
    """The fields of a dataset.json. Its methods raise InputError, which names the file, the field and the value."""

    path: Path
    fields: dict[str, Any]

    def text(self, field: str, default: str) -> str:
        """The field's text without blanks around it; `default` where there is none."""
        value = self.fields.get(field, default)
        if not isinstance(value, str):
            raise InputError(f"{self.path}: {field!r} must be text, got {value!r}.")
        return value.strip() or default

    def modality(self, field: str) -> Modality:
        """What the one channel shows that `field` names."""
        channels = self.fields.get(field)
        if not isinstance(channels, dict) or not channels:
            raise InputError(f'{self.path}: {field!r} must map "0" to CT or MRI, got {channels!r}.')
        if len(channels) > 1:
            raise InputError(
                f"{self.path}: images with {len(channels)} channels cannot be used; one channel is expected."
            )
        (channel,) = channels.values()
        known = _MODALITIES.get(channel.strip().casefold()) if isinstance(channel, str) else None
        if known is None:
            expected = f"CT, or for MR one of {', '.join(_MR_CHANNELS).upper()}"
            raise InputError(f"{self.path}: {field!r} {channel!r} is unknown; expected is {expected}.")
        return known

    def file(self, declared: object, field: str, where: str) -> Path:
        """The file of the data set that `field` of the entry `where` declares by a path from the folder on."""
        if not isinstance(declared, str) or not declared:
            raise InputError(f"{self.path}: {where} has no file name for {field!r}.")
        parts = inner_path(declared)
        if parts is None:
            raise InputError(f"{self.path}: {declared!r} leaves the folder of the data set, or is no file name.")
        return self.inside(self.path.parent.joinpath(*parts), f"{self.path} names {declared!r}, but it")

    def inside(self, file: Path, what: str) -> Path:
        """The file, which must be there, and not lead out of the folder of the data set as a link."""
        try:
            found = file.resolve(strict=True)
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # ValueError: half characters; RuntimeError: links in a ring
            raise InputError(f"{what} is missing, or is no file.") from error
        if not found.is_file():
            raise InputError(f"{what} is missing, or is no file.")
        if not found.is_relative_to(self.path.parent.resolve()):
            raise InputError(
                f"{what} is a link to {found}, outside the folder of the data set; put the file itself there."
            )
        return file


@dataclass(frozen=True)
class Layout:
    """Where a layout keeps what a task needs: the field that names the channels, the labels by value, the cases.

    The functions raise InputError. The value 0 may be among the labels; it is the background.
    """

    channels: str
    labels: Callable[[Description], dict[int, str]]
    cases: Callable[[Description], Iterator[CaseFiles]]


def read_description(folder: Path) -> Description:
    """Read dataset.json of this folder. Raises InputError if it is missing or holds no JSON object."""
    path = folder / _NAME
    try:
        fields = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {_NAME}, so it is no data set in the layout of the Decathlon or of nnU-Net."
        ) from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path} must hold a JSON object.")
    return Description(path, fields)
