"""Recipes of `medseqft pretrain`: a TOML file that says which images to pre-train on, and how."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.decathlon import read_data_set, split
from MedSeqFTLib.learning.settings import ImageGroup, PretrainSettings, SyntheticGroup
from MedSeqFTLib.workspace.files import explain
from MedSeqFTLib.workspace.schema import Intensity, Modality, Percentile, Role, Vector3, Window

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

IMAGES, SYNTHETIC = "images", "synthetic"


class _Images(BaseModel):
    """One [[images]] of a recipe: files by patterns, or the training side of a data set in the Decathlon's layout.

    held_out and split_seed leave out the cases that `import-decathlon` with as many validation cases would hold out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    files: tuple[str, ...] = ()
    modality: Modality | None = None
    intensity: Intensity | None = None  # None: the usual rule of the modality
    spacing: Vector3 | None = None
    data_set: str | None = None
    held_out: Annotated[int, Field(ge=1)] | None = None
    split_seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _one_source(self) -> _Images:
        if bool(self.files) == bool(self.data_set):
            raise ValueError("give either files (with modality) or data_set (with held_out)")
        if self.files and self.modality is None:
            raise ValueError('files need a modality, "CT" or "MR"')
        if self.data_set and self.held_out is None:
            raise ValueError("data_set needs held_out: how many of its cases are never looked at")
        return self


def read_recipe(path: Path, data: Path | None = None) -> PretrainSettings:
    """The settings that a recipe describes, with every image found.

    Args:
        data: the folder that the recipe's file names start from; by default its own.

    Raises:
        InputError: the recipe cannot be read or understood, or an image is missing.
    """
    table = _table(path)
    folder = data or path.parent
    groups: list[ImageGroup | SyntheticGroup] = []
    try:
        groups += [_found(_Images.model_validate(part), folder, path) for part in table.pop(IMAGES, [])]
        groups += [SyntheticGroup.model_validate(part) for part in table.pop(SYNTHETIC, [])]
        settings: PretrainSettings = PretrainSettings.model_validate({**table, "groups": groups})
    except ValidationError as error:
        raise InputError(f"The recipe {path} cannot be used: {explain(error)}.") from error
    if not groups:
        raise InputError(f"The recipe {path} names no images: it needs at least one [[images]] or [[synthetic]].")
    return settings


def _table(path: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The recipe {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise InputError(f"The recipe {path} is not a TOML file: {error}.") from error
    for name in (IMAGES, SYNTHETIC):
        parts = table.get(name, [])
        if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
            raise InputError(f"The recipe {path} cannot be used: write [[{name}]], once for each group.")
    return table


def _found(images: _Images, folder: Path, recipe: Path) -> ImageGroup:
    if images.data_set is not None:
        data_set = read_data_set(folder / images.data_set)
        chosen = split(data_set.pairs, None, images.held_out, images.split_seed)
        paths = [pair.image for pair, role in chosen if role is Role.TRAIN]
        return _group(paths, images.intensity or data_set.task.intensity, images.spacing)
    paths = []
    for pattern in images.files:
        matches = _matching(folder, pattern, recipe)
        if not matches:
            raise InputError(f"The recipe {recipe} names {pattern}, but nothing in {folder} has such a name.")
        paths += matches
    usual: Intensity = Window() if images.modality is Modality.CT else Percentile()
    return _group(list(dict.fromkeys(paths)), images.intensity or usual, images.spacing)


def _matching(folder: Path, pattern: str, recipe: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.glob(pattern) if path.is_file())
    except (NotImplementedError, ValueError, OSError) as error:  # absolute, no pattern at all, overlong
        why = getattr(error, "strerror", None) or error
        raise InputError(f"The recipe {recipe} cannot be used: files {pattern!r}: {why}.") from error


def _group(paths: list[Path], intensity: Intensity, spacing: Vector3 | None) -> ImageGroup:
    return ImageGroup(images=tuple(str(path.resolve()) for path in paths), intensity=intensity, spacing=spacing)
