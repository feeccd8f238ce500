"""What this computer offers: library versions, device, memory, disk; and what to do about what is missing."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

import psutil
from pydantic import BaseModel

import MedSeqFTLib
from MedSeqFTLib.errors import MedSeqFTError, is_out_of_memory
from MedSeqFTLib.workspace.workspace import Workspace

_LIBRARIES = (
    "torch", "monai", "peft", "safetensors", "SimpleITK", "numpy", "blosc2", "pydantic", "typer", "rich", "psutil",
    "filelock", "matplotlib", "jinja2",
)  # fmt: skip
_GIB = 1 << 30
_LITTLE_DISK = 5 * _GIB  # bytes; checkpoints and the cache of one small task
_LITTLE_MEMORY = 8 * _GIB


class Device(BaseModel):
    """Where torch computes. Memory in bytes; None where it is that of the computer."""

    kind: str  # cuda, mps, cpu
    name: str
    memory: int | None
    bfloat16: bool  # measured to be faster than float32


class Environment(BaseModel):
    """A report for people and programs. Sizes in bytes."""

    medseqft: str
    python: str
    system: str
    libraries: dict[str, str | None]  # None: not installed
    device: Device | None  # None: torch is missing or broken
    cores: int
    memory: int
    memory_free: int
    workspace: str
    workspace_found: bool
    disk_free: int
    advice: list[str]  # what is missing and what to do next
    ready: bool  # everything needed to adapt a model is there


def environment(workspace_folder: Path) -> Environment:
    """Look around. Imports torch, so call it in a process that may do so."""
    libraries = {name: _version(name) for name in _LIBRARIES}
    missing = [name for name, version in libraries.items() if version is None]
    device, device_trouble = _device() if "torch" not in missing else (None, None)
    found, workspace_trouble = _workspace(workspace_folder)
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(_existing(workspace_folder)).free
    advice = [f"{name} is missing: pip install {name}" for name in missing]
    advice += [text for text in (device_trouble, workspace_trouble) if text]
    advice += _shortages(memory.total, disk)
    return Environment(
        medseqft=MedSeqFTLib.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} ({platform.machine()})",
        libraries=libraries,
        device=device,
        cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        memory=memory.total,
        memory_free=memory.available,
        workspace=str(workspace_folder.absolute()),
        workspace_found=found,
        disk_free=disk,
        advice=advice,
        ready=not missing and device is not None,
    )


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _device() -> tuple[Device | None, str | None]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of torch is missing
        if is_out_of_memory(error):  # installing it again would not help
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return None, f"torch is installed but cannot be imported ({reason}): install it again for {sys.executable}"
    from MedSeqFTLib.models.compute import choose_compute, gpu_problem

    compute = choose_compute()  # the same choice that a job makes
    kind, bfloat16 = compute.device.type, compute.dtype is torch.bfloat16
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(0)
        return Device(kind=kind, name=properties.name, memory=properties.total_memory, bfloat16=bfloat16), None
    name = "Apple GPU" if kind == "mps" else platform.processor() or platform.machine()
    device = Device(kind=kind, name=name, memory=None, bfloat16=bfloat16)
    return device, _no_gpu(gpu_problem()) if kind == "cpu" else None


def _no_gpu(problem: str | None) -> str:
    slower = "adapting works, but takes many times longer"
    if problem is None:
        return f"torch finds no GPU: {slower}; see pytorch.org for GPU builds"
    return f"the GPU cannot be used ({problem}): {slower}; close other programs that use it, or mend its driver"


def _workspace(folder: Path) -> tuple[bool, str | None]:
    try:
        Workspace.open(folder)
    except MedSeqFTError as error:
        return False, str(error)
    return True, None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.expanduser().absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _shortages(memory: int, disk: int) -> list[str]:
    advice = []
    if memory < _LITTLE_MEMORY:
        advice.append(f"{memory / _GIB:.0f} GiB of memory is little: close other programs while a model is adapted")
    if disk < _LITTLE_DISK:
        advice.append(f"{disk / _GIB:.1f} GiB of free disk is little: free some space before adapting")
    return advice
