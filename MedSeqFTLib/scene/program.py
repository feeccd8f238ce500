"""The Slicer program around us, if there is one."""

from __future__ import annotations

import shutil
from pathlib import Path

import slicer

from MedSeqFTLib.errors import JobError


def worker_python() -> str | None:
    """The interpreter for workers: PythonSlicer inside Slicer; None, the present one, where there is only its core.

    `sys.executable` would not do: in some builds it is Slicer itself, and a second window would open.

    Raises:
        JobError: Slicer is damaged.
    """
    home = getattr(getattr(slicer, "app", None), "slicerHome", None)
    if home is None:
        return None
    found = shutil.which("PythonSlicer") or shutil.which("PythonSlicer", path=str(Path(home) / "bin"))
    if found is None:
        raise JobError(f"PythonSlicer is not in {home}, so no worker can be started: install Slicer again.")
    return found
