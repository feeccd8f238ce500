"""What this computer offers, as the System lines of Set-up tell it. Looks without importing anything heavy."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.gpu_probe import Gpu
from MedSeqFTLib.scene.panels.packages import fits, is_cpu_build, torch_bounds, version_of

GIB = 1 << 30
LITTLE_DISK = 5 * GIB  # checkpoints and the cache of one small task
LITTLE_MEMORY = 4 * GIB


def program_text() -> str:
    """Slicer, Python, system."""
    return _("Slicer {slicer}, Python {python}, {system} ({machine})").format(
        slicer=slicer.app.applicationVersion,
        python=platform.python_version(),
        system=platform.system(),
        machine=platform.machine(),
    )


def torch_text() -> str:
    """Which build of PyTorch there is, told by its version alone."""
    version = version_of("torch")
    if version is None:
        return _("not installed")
    told = _("{version}, {build}").format(version=version, build=_build(version)) if "+" in version else version
    if fits(version, torch_bounds()):
        return told
    return _(
        "{told}. MedSeqFT is tested with {bounds}; if adapting fails, uninstall PyTorch in the module PyTorch Utils, "
        "restart Slicer, and press Install here."
    ).format(told=told, bounds=torch_bounds())


def _build(version: str) -> str:
    local = version.partition("+")[2]
    if cuda := re.fullmatch(r"cu(\d+)(\d)", local):
        return _("built for CUDA {version}").format(version=f"{cuda[1]}.{cuda[2]}")
    return _("built for the CPU alone") if local == "cpu" else _("built for {name}").format(name=local)


def memory_text(folder: Path) -> str:
    """Free memory, and free disk where the workspace lies or would lie."""
    disk = _("{free:.1f} GiB of disk free").format(free=disk_free(folder) / GIB)
    memory = memory_free()
    told = _("free memory unknown, {disk}").format(disk=disk)
    if memory is not None:
        told = _("{free:.1f} GiB of memory free, {disk}").format(free=memory / GIB, disk=disk)
    advice = []
    if memory is not None and memory < LITTLE_MEMORY:
        advice.append(_("Little memory: close other programs before adapting."))
    if disk_free(folder) < LITTLE_DISK:
        advice.append(_("Little disk: free some space before adapting."))
    return " ".join([f"{told}.", *advice])


def disk_free(folder: Path) -> int:
    """Bytes, of the disk of a folder or of the nearest one above it that exists."""
    there = next(path for path in (folder, *folder.parents, Path.home(), Path.cwd()) if path.exists())
    return shutil.disk_usage(there).free


def memory_free() -> int | None:
    """Bytes; None where nobody tells. psutil is small, and imported only where it is there."""
    if importlib.util.find_spec("psutil") is None:
        return None
    import psutil

    return int(psutil.virtual_memory().available)


def device_text(gpus: list[Gpu]) -> str:
    """The GPUs in words, with what to do about them."""
    if not gpus:
        return _("No NVIDIA card answers, so the CPU computes: adapting works, but takes many times longer.")
    lines = [_card(gpu) for gpu in gpus]
    if is_cpu_build(version_of("torch")):
        lines.append(
            _(
                "PyTorch is built for the CPU alone and cannot use it: uninstall PyTorch in the module PyTorch Utils, "
                "restart Slicer, and press Install here."
            )
        )
    return "\n".join(lines)


def _card(gpu: Gpu) -> str:
    told = gpu.name
    if gpu.free is not None and gpu.total is not None:
        told = _("{name}, {free:.1f} of {total:.1f} GiB free").format(
            name=gpu.name, free=gpu.free / GIB, total=gpu.total / GIB
        )
    return _("{told}, driver {driver}").format(told=told, driver=gpu.driver) if gpu.driver else told
