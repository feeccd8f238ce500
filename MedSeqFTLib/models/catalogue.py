"""The catalogue of foundation models: Resources/FoundationModels.json as types. Free of torch.

An entry says where a user gets the file, what network it holds, and how the file's tensors are named here.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.workspace.files import explain
from MedSeqFTLib.workspace.networks import Description, NetworkSpec, PretextSpec
from MedSeqFTLib.workspace.schema import ExpectedInput, Name

_LIBRARY = Path(__file__).resolve().parents[1]
_FILE = "FoundationModels.json"
#: Beside the library in the sources and in 3D Slicer; inside it where pip installed it.
RESOURCES = next(
    (folder for folder in (_LIBRARY.parent / "Resources", _LIBRARY / "resources") if (folder / _FILE).is_file()),
    _LIBRARY.parent / "Resources",
)
PATH = RESOURCES / _FILE
#: Tensors are named "backbone.KEY" and "pretext.KEY" once the rules have been applied.
BACKBONE, PRETEXT = "backbone.", "pretext."


class PublishedFile(Description):
    """A file as its publisher offers it."""

    name: str
    size: Annotated[int, Field(gt=0)] | None = None  # bytes
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # None: recorded when it is imported
    url: Annotated[str, Field(pattern=r"^https://")] | None = None  # for --download; None: from the page, by hand


class Rule(Description):
    """One step from a file's names to ours, a regular expression anchored at the start of a name.

    keep: names that match get `name` in place of the match. It is the last rule for them.
    rename: names that match get `name` in place of the match and go on to the next rule.
    drop: tensors that match are left out on purpose; `why` is reported.
    """

    do: Literal["rename", "keep", "drop"]
    match: str
    name: str = ""
    why: str = ""

    @field_validator("match")
    @classmethod
    def _anchored(cls, match: str) -> str:
        if not match.startswith("^"):
            raise ValueError(f"a rule is anchored at the start of a name, got {match!r}")
        re.compile(match)
        return match


class Memory(Description):
    """Estimated working memory in GiB, for a patch as the entry declares and a batch of two."""

    training: float
    prediction: float


class FoundationModel(Description):
    """One entry of the catalogue."""

    id: Name
    title: str
    publisher: str
    citation: str
    licence: str
    licence_note: str = ""
    page: Annotated[str, Field(pattern=r"^https://")]  # where a user gets the file
    files: Annotated[tuple[PublishedFile, ...], Field(min_length=1)]
    network: NetworkSpec
    pretext: PretextSpec | None  # None: supervised, without a pretext head
    container: tuple[str, ...] = ()  # keys under which the file keeps its tensors; (): at the top
    rules: tuple[Rule, ...]
    encoder: Annotated[str, Field(pattern=r"^\^backbone")]  # our names of the tensors that must all be there
    lora: str = ".*"  # names of the backbone's linear and convolution layers that get low-rank changes
    input: ExpectedInput
    memory: Memory
    trained_on: str
    caution: str = ""


class Catalogue(Description):
    """Resources/FoundationModels.json."""

    models: tuple[FoundationModel, ...]

    def model(self, wanted: str) -> FoundationModel:
        """The entry of an id. Raises InputError with the known ids."""
        found = next((model for model in self.models if model.id == wanted), None)
        if found is None:
            known = ", ".join(model.id for model in self.models)
            raise InputError(f"The catalogue has no model '{wanted}'. It has: {known}.")
        return found


@cache
def catalogue(path: Path = PATH) -> Catalogue:
    """The catalogue that ships with this software. Raises WorkspaceError if it is missing or damaged."""
    try:
        found: Catalogue = Catalogue.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise WorkspaceError(f"The catalogue of foundation models cannot be read: {error}.") from error
    except ValueError as error:
        why = explain(error) if isinstance(error, ValidationError) else str(error)
        raise WorkspaceError(f"The catalogue of foundation models {path} cannot be used: {why}.") from error
    return found
