"""Foundation models that say themselves what they are: safetensors files with a description in their metadata."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.files import explain
from MedSeqFTLib.workspace.networks import NetworkSpec, PretextSpec
from MedSeqFTLib.workspace.schema import SCHEMA_VERSION, Document, ExpectedInput, Name, Origin

KEY = "medseqft"  # of the metadata
_LONGEST = 1 << 20  # characters


class DescribedModel(Document):
    """What `models export-foundation` writes beside the tensors, which are named "backbone.KEY" and "pretext.KEY"."""

    model: Name  # of the catalogue, or a name of its own
    title: str
    licence: str
    network: NetworkSpec
    pretext: PretextSpec | None
    lora: str
    input: ExpectedInput | None
    origin: Origin | None  # where the exported weights came from, if they were imported
    note: str


def description(path: object, metadata: Mapping[str, str]) -> DescribedModel | None:
    """The description in a file's metadata; None if it has none.

    Raises:
        InputError: the description is damaged, was written by a newer program, or describes no network that can be.
    """
    text = metadata.get(KEY)
    if text is None:
        return None
    if len(text) > _LONGEST:
        raise InputError(f"{path} cannot be used: its description has {len(text)} characters.")
    try:
        found: DescribedModel = DescribedModel.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path} cannot be used: its description is damaged ({explain(error)}).") from error
    if found.schema_version > SCHEMA_VERSION:
        raise InputError(f"{path} was written by a newer MedSeqFT; update MedSeqFT.")
    return found
