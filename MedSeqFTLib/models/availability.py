"""What stands between a model of the catalogue and its use on this computer. Free of torch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from MedSeqFTLib.models.catalogue import RESOURCES, FoundationModel

_GIB = 1 << 30
_ASKING = 5.0  # seconds that a driver may take to answer
#: kind of network -> module and package that only this kind needs
_PACKAGES: Mapping[str, tuple[str, str]] = {
    "residual-encoder-unet": ("dynamic_network_architectures", "dynamic-network-architectures"),
    "swin-unetr": ("einops", "einops"),
    "vit": ("einops", "einops"),
}


@dataclass(frozen=True)
class Machine:
    """Free memory in GiB; `gpu`: of the roomiest NVIDIA GPU, None without one."""

    memory: float
    gpu: float | None


def this_machine() -> Machine:
    """Look at this computer, without loading torch."""
    return Machine(psutil.virtual_memory().available / _GIB, _free_on_gpu())


def _free_on_gpu() -> float | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ASKING, check=True).stdout
        return max((float(line) / 1024 for line in answer.splitlines()), default=None)
    except (OSError, subprocess.SubprocessError, ValueError):  # a driver that is not running
        return None


def obstacles(model: FoundationModel, machine: Machine) -> list[str]:
    """Why a model cannot be used here, each reason as a short text; empty if nothing speaks against it."""
    found = []
    module, package = _PACKAGES.get(model.network.kind, ("", ""))
    if module and find_spec(module) is None:
        found.append(f"needs the package {package}: start MedSeqFT with run.py, which installs it")
    room = max(machine.memory, machine.gpu or 0.0)
    for use, needed in (("training", model.memory.training), ("prediction", model.memory.prediction)):
        if needed > room:
            found.append(f"needs {needed:g} GiB for {use}, this machine has {room:.1f} free")
    return found


def shipped_file(model: FoundationModel) -> Path | None:
    """The model's file, if it came with MedSeqFT."""
    paths = [RESOURCES / "Models" / file.name for file in model.files]
    return next((path for path in paths if path.is_file()), None)


def where_to_get(model: FoundationModel) -> str:
    """How a user comes by the model's file."""
    if shipped_file(model):
        return "comes with MedSeqFT"
    if model.files[0].url:
        return f"add --download, or get the file from {model.page}"
    return f"the file must be downloaded from {model.page}"


@dataclass(frozen=True)
class Choice:
    """What a person sees of a model who chooses one; `obstacles` say why it cannot be used here."""

    model: str
    title: str
    licence: str
    size: str
    pretext: bool
    memory: str
    obstacles: tuple[str, ...]
    get: str


def choices(models: Iterable[FoundationModel]) -> list[Choice]:
    """Models for a table, in their order."""
    machine = this_machine()
    return [
        Choice(
            model=model.id,
            title=model.title,
            licence=model.licence,
            size=", ".join(size_text(file.size) for file in model.files),
            pretext=model.pretext is not None,
            memory=f"{model.memory.training:g} GiB",
            obstacles=tuple(obstacles(model, machine)),
            get=where_to_get(model),
        )
        for model in models
    ]


def size_text(size: int | None) -> str:
    """Bytes for people."""
    if size is None:
        return "unknown size"
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / (1 << 20):.1f} MiB"
