"""A foundation version as one file, to be moved to another workspace."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.models.catalogue import BACKBONE, PRETEXT
from MedSeqFTLib.models.checkpoints import write_tensors
from MedSeqFTLib.models.described import KEY, DescribedModel
from MedSeqFTLib.models.weights import BACKBONE as BACKBONE_FILE
from MedSeqFTLib.models.weights import PRETEXT_HEAD
from MedSeqFTLib.workspace.files import atomic_path
from MedSeqFTLib.workspace.names import name_from
from MedSeqFTLib.workspace.outside import staging_in
from MedSeqFTLib.workspace.schema import ModelVersion
from MedSeqFTLib.workspace.workspace import Workspace


def export_foundation(
    workspace: Workspace, version_id: str, path: Path, *, title: str | None = None, licence: str | None = None
) -> Path:
    """Write a foundation version as one safetensors file that `import_foundation` takes without further help.

    Args:
        title, licence: what the file says of itself; None: what the imported file said, or else that it was made here.

    Raises:
        InputError: there is no such version, it is no foundation model, or `path` exists or lies in no folder.
        WorkspaceError: a file of the version is damaged.
        StorageError: the file cannot be written.
    """
    version = workspace.version(version_id)
    if version.kind != "foundation":
        raise InputError(f"{version.id} is adapted to {version.task}; only foundation models are exported this way.")
    if path.suffix != ".safetensors":
        raise InputError(f"{path} must be named .safetensors, which is what it will be.")
    if path.exists():
        raise InputError(f"{path} exists already and is not overwritten; choose another name.")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}.")
    workspace.verify_version(version)
    folder = workspace.version_folder(version.id)
    parts = {BACKBONE_FILE: BACKBONE, PRETEXT_HEAD: PRETEXT}
    tensors = {
        prefix + name: tensor
        for file, prefix in parts.items()
        if file in version.files
        for name, tensor in load_file(folder / file).items()
    }
    described = _description(version, path, title, licence)
    with staging_in(path.parent) as staging, atomic_path(path, staging) as temporary:
        write_tensors(tensors, temporary, {"format": "pt", KEY: described.model_dump_json()})
    return path


def _description(version: ModelVersion, path: Path, title: str | None, licence: str | None) -> DescribedModel:
    origin = version.origin
    return DescribedModel(
        model=name_from(path.stem, "model"),
        title=title or (origin.title if origin else f"Foundation model {version.id} of a workspace"),
        licence=licence or (origin.licence if origin else "not stated"),
        network=version.network,
        pretext=version.pretext,
        lora=version.lora,
        input=version.input,
        origin=origin,
        note=version.note,
    )
