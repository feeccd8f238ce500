"""What an errand is to do. An errand is a short job, which may run beside an adaptation: segment, accept, export.

Torch-free, for the window and the command line. File names are those of files in the job's `input` folder.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from MedSeqFTLib.learning.settings import Settings
from MedSeqFTLib.workspace.names import is_file_name
from MedSeqFTLib.workspace.schema import Name, Reading, Role, Seconds

INPUT_FOLDER = "input"
RESULT_FILE = "result.json"


def _below_input(name: str) -> str:
    if not is_file_name(name):
        raise ValueError(f"{name!r} is not the name of a file in the job's folder")
    return name


InputFile = Annotated[str, AfterValidator(_below_input)]


class SegmentSettings(Settings):
    """Segment a volume with a version."""

    image: InputFile
    name: Name  # of the volume; NAME-2 and so on if another volume has this name already
    version: Name
    reading: Reading = "per-task"
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5  # of neighbouring windows


class AcceptSettings(BaseModel):
    """Store an image with its segmentation as a case."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    image: InputFile
    segmentation: InputFile
    role: Role
    case_id: Name
    by: str = ""
    proposal: str | None = None  # segmentation_sha256 of the stored proposal that was corrected
    seconds: Seconds | None = None  # spent on correcting
    near_duplicate_reason: str = ""  # why it is another scan than the one that it looks like
    revises: bool = False  # the case is stored already, and is corrected again


class ExportSettings(BaseModel):
    """Write segmentations of a task into a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    names: Annotated[tuple[Name, ...], Field(min_length=1)]
    folder: str
    version: Name | None = None
    overwrite: bool = False
