"""What this computer offers, as the System lines of Set-up tell it. Looks without importing anything heavy."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.scene.panels.child import Child
from MedSeqFTLib.scene.panels.packages import fits, torch_bounds, version_of

GIB = 1 << 30
LITTLE_DISK = 5 * GIB  # checkpoints and the cache of one small task
LITTLE_MEMORY = 4 * GIB
QUERY = ["--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits"]
PATIENCE = 15.0  # seconds for nvidia-smi; a sleeping card takes some


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


class Device:
    """Asks the driver for the graphics card, in the background."""

    def __init__(self, told: Callable[[str], None]) -> None:
        """`told` gets the answer, for people."""
        self._told, self._child = told, Child()

    def ask(self) -> None:
        """Ask, unless it is being asked already."""
        if not self._child.is_active:
            self._child.run("nvidia-smi", QUERY, PATIENCE, lambda code, text: self._told(device_text(code, text)))

    def close(self) -> None:
        """The window is going."""
        self._child.forget()


def device_text(code: int | None, answer: str, system: str = sys.platform) -> str:
    """What nvidia-smi said, in words, with what to do about it."""
    cards = [re.split(r"\s*,\s*", line.strip()) for line in answer.splitlines() if line.count(",") == 3]
    if code != 0 or not cards:
        if system == "darwin":
            return _("Apple GPU where there is one; it shares the computer's memory.")
        return _("No NVIDIA card answers, so the CPU computes: adapting works, but takes many times longer.")
    lines = [_card(*card) for card in cards]
    if (version_of("torch") or "").endswith("+cpu"):
        lines.append(
            _(
                "PyTorch is built for the CPU alone and cannot use it: uninstall PyTorch in the module PyTorch Utils, "
                "restart Slicer, and press Install here."
            )
        )
    return "\n".join(lines)


def _card(name: str, total: str, free: str, driver: str) -> str:
    if not (total.isdecimal() and free.isdecimal()):  # "[N/A]" of cards that share the computer's memory
        return _("{name}, driver {driver}").format(name=name, driver=driver)
    return _("{name}, {free:.1f} of {total:.1f} GiB free, driver {driver}").format(
        name=name, free=int(free) / 1024, total=int(total) / 1024, driver=driver
    )
