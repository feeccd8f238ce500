"""From trained modules to an immutable model version in the workspace."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from torch import nn

import MedSeqFTLib
from MedSeqFTLib.learning.progress import Teller
from MedSeqFTLib.learning.settings import PretrainSettings, Settings
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.pretext.base import Pretext
from MedSeqFTLib.models.weights import BACKBONE, PRETEXT_HEAD, file_hashes, save_module
from MedSeqFTLib.workspace.files import storage_errors
from MedSeqFTLib.workspace.networks import NetworkSpec
from MedSeqFTLib.workspace.schema import ExpectedInput, ModelVersion
from MedSeqFTLib.workspace.workspace import Workspace

Scalar = str | int | float | bool | None
_LOCK_TIMEOUT = 60.0  # seconds: a long job ends here, so rather wait than fail


def published_by(workspace: Workspace, job: str, kind: str) -> ModelVersion | None:
    """The version that a job has published already: a resumed job must not publish twice."""
    versions = [version for version in workspace.versions() if version.job == job and version.kind == kind]
    return versions[-1] if versions else None


def publish_foundation(
    workspace: Workspace,
    folder: Path,
    network: NetworkSpec,
    note: str,
    *,
    name: str | None = None,
    job: str | None = None,
    **declared: Any,
) -> ModelVersion:
    """Publish the files in a staging folder as a foundation version.

    Args:
        name: the version to make; None: the next free one.
        declared: further fields of ModelVersion, such as pretext and input.

    Raises StorageError.
    """
    with next_version(workspace) as free:
        version = ModelVersion(
            id=name or free,
            kind="foundation",
            parent=None,
            task=None,
            job=job,
            network=network,
            software=software(),
            files=file_hashes(folder),
            note=note,
            **declared,
        )
        return workspace.publish(version, folder)


def publish_pretrained(
    workspace: Workspace,
    job: str,
    backbone: Backbone,
    pretext: Pretext,
    settings: PretrainSettings,
    note: str,
    teller: Teller,
) -> ModelVersion:
    """Publish M_0 with its pretext head. Raises StorageError."""
    with workspace.staging() as folder:
        save_modules(folder, {BACKBONE: backbone, PRETEXT_HEAD: pretext})
        version = publish_foundation(
            workspace,
            folder,
            settings.network,
            note,
            job=job,
            pretext=settings.pretext,
            input=ExpectedInput(intensity={}, patch=(settings.patch_side,) * 3),
            settings=recorded(settings),
        )
    teller.message(f"Foundation model {version.id}: {note}")
    return version


@contextmanager
def next_version(workspace: Workspace) -> Iterator[str]:
    """The next free version id, kept free from other writers while the context lasts."""
    with workspace.lock(timeout=_LOCK_TIMEOUT):
        yield workspace.next_version_id()


def save_modules(folder: Path, modules: dict[str, nn.Module]) -> None:
    """Write modules as safetensors files. Raises StorageError."""
    for name, module in modules.items():
        with storage_errors(folder / name):
            save_module(module, folder / name)


def recorded(settings: Settings) -> dict[str, Scalar]:
    """Settings for the record; lists and parts are left out, they have fields of their own."""
    values = settings.model_dump(mode="json")
    return {name: value for name, value in values.items() if isinstance(value, Scalar)}


def software() -> dict[str, str]:
    """Versions that a result depends on."""
    packages = ("torch", "monai", "peft", "SimpleITK", "numpy")
    return {
        "MedSeqFT": MedSeqFTLib.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: installed_version(name) for name in packages},
    }
