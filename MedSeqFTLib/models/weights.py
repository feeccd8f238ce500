"""Model versions as safetensors files: writing their parts and reading them back, with every hash checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.checkpoints import one_line, write_tensors
from MedSeqFTLib.models.head import Head, build_head
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.pretext.base import Pretext
from MedSeqFTLib.workspace.files import check_sha256, sha256_of
from MedSeqFTLib.workspace.pruned import refuse_pruned
from MedSeqFTLib.workspace.schema import ModelVersion, TaskPlan
from MedSeqFTLib.workspace.workspace import Workspace

BACKBONE = "backbone.safetensors"  # M_t
TASK_BACKBONE = "task-backbone.safetensors"  # F_t
PRETEXT_HEAD = "pretext-head.safetensors"  # of M_0
#: What building a network from a stranger's description, or filling it, may raise.
NOT_A_NETWORK = (
    InputError, SafetensorError, ValueError, RuntimeError, AssertionError, ArithmeticError, TypeError, LookupError,
)  # fmt: skip
M = TypeVar("M", bound=nn.Module)


def task_head(task: str) -> str:
    """File of the head that works on F_t's features."""
    return f"head-{task}.safetensors"


def chain_head(task: str) -> str:
    """File of a task's head that works on M_t's features."""
    return f"chain-head-{task}.safetensors"


def save_module(module: nn.Module, path: Path) -> None:
    """Write a module's parameters. The file is written in place: use it inside a folder that is not yet visible.

    Raises OSError.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_tensors(tensors, path, {"format": "pt"})


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its name with forward slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def load_backbone(workspace: Workspace, version: ModelVersion) -> Backbone:
    """M_t of a version. Raises WorkspaceError if its file is missing or damaged."""
    return _loaded(lambda: build_backbone(version.network, 0), workspace, version, BACKBONE)


def load_pretext(workspace: Workspace, version: ModelVersion) -> Pretext:
    """The pretext head of a foundation version.

    Raises:
        InputError: the version has none.
        WorkspaceError: its file is missing or damaged.
    """
    pretext = version.pretext
    if pretext is None:
        raise InputError(f"{version.id} has no pretext head, so nothing can be scored with it.")
    return _loaded(lambda: build_pretext(pretext, version.network, 0), workspace, version, PRETEXT_HEAD)


def load_head(workspace: Workspace, version: ModelVersion, file: str, plan: TaskPlan) -> Head:
    """A head from one of a version's files. Raises WorkspaceError if it is missing or damaged."""
    return _loaded(lambda: build_head(version.network, len(plan.labels) + 1, 0), workspace, version, file)


def load_task_model(workspace: Workspace, version: ModelVersion) -> tuple[Backbone, Head]:
    """F_t and its head: the model that segments the version's own task.

    Raises:
        InputError: a foundation model.
        WorkspaceError: a file is missing or damaged.
    """
    if version.task is None:
        raise InputError(f"{version.id} is a foundation model: it segments nothing until it is adapted to a task.")
    backbone = _loaded(lambda: build_backbone(version.network, 0), workspace, version, TASK_BACKBONE)
    return backbone, load_head(workspace, version, task_head(version.task), version.plan(version.task))


def load_memory(workspace: Workspace, version: ModelVersion, name: str) -> dict[str, Tensor]:
    """Further tensors that a strategy stored with a version. Raises WorkspaceError if they are missing or damaged."""
    path = _checked(workspace, version, name)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WorkspaceError(f"{path} is damaged: {one_line(error)}.") from error


def _checked(workspace: Workspace, version: ModelVersion, name: str) -> Path:
    path = workspace.version_folder(version.id) / name
    if name not in version.files:
        raise WorkspaceError(f"Version {version.id} has no file {name}.")
    refuse_pruned(workspace.version_folder(version.id))
    check_sha256(path, version.files[name])
    return path


def _loaded(build: Callable[[], M], workspace: Workspace, version: ModelVersion, name: str) -> M:
    path = _checked(workspace, version, name)
    try:
        module = _built(build, path)
        module.load_state_dict(load_file(path))
    except NOT_A_NETWORK as error:
        misfit = f"{path} does not fit the network that {version.id} declares"
        raise WorkspaceError(f"{misfit}: {one_line(error)}.") from error
    return module.eval()


def _built(build: Callable[[], M], path: Path) -> M:
    """The module, if its parameters can be in the file: a damaged description may be one of terabytes.

    Raises one of NOT_A_NETWORK.
    """
    with torch.device("meta"):
        needed = sum(tensor.nbytes for tensor in build().state_dict().values())
    if needed > path.stat().st_size:
        raise ValueError(f"that has {needed} bytes of parameters")
    return build()


def frozen(module: M, device: torch.device) -> M:
    """The module on a device, in evaluation mode and without gradients: a teacher."""
    return module.to(device).eval().requires_grad_(False)
