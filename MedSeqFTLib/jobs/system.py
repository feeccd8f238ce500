"""What differs between Linux, macOS and Windows. Branches take the platform's name, so all are tested everywhere."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import psutil

#: A process's creation time is derived from the boot time, which the system may correct by a second meanwhile.
_CLOCK_TOLERANCE = 2.0  # seconds
_CREATE_NEW_PROCESS_GROUP = 0x00000200
_CREATE_NO_WINDOW = 0x08000000
_BELOW_NORMAL_PRIORITY = 0x00004000
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_LARGEST_INT = 2**31 - 1


def detached_process_arguments(platform: str = sys.platform) -> dict[str, Any]:
    """Keyword arguments for subprocess.Popen that let a process outlive its parent and the parent's terminal.

    Windows: CREATE_NO_WINDOW gives the process a hidden console of its own. DETACHED_PROCESS would give it none, and
    then every console program that it starts (the real interpreter behind a virtual environment's python.exe, data
    loader processes) would open a visible one.
    """
    if platform == "win32":
        return {"creationflags": _CREATE_NEW_PROCESS_GROUP | _CREATE_NO_WINDOW}
    return {"start_new_session": True}


def background_priority(present: int, platform: str = sys.platform) -> int:
    """The value for psutil's `nice` that keeps the desktop fluent while a job uses all cores; never a higher one."""
    return _BELOW_NORMAL_PRIORITY if platform == "win32" else max(present, 5)


def usable_cores(platform: str = sys.platform) -> int:
    """Physical cores that this process may use. Only Linux and Windows can bind a process to some of its cores."""
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if platform == "darwin":
        return physical
    return min(physical, len(psutil.Process().cpu_affinity() or [0]))


def create_time(pid: int) -> float:
    """When a living process began, in seconds since 1970. Raises psutil.NoSuchProcess."""
    return float(psutil.Process(pid).create_time())


def process_is(pid: int, created: float) -> bool:
    """True if the process `pid` runs and is the one that began at `created`, not a later one with the same number."""
    return _find(pid, created) is not None


def kill_tree(pid: int, created: float | None = None, timeout: float = 5.0) -> None:
    """Kill a process and all that it started, and wait until they are gone.

    Args:
        pid: the root of the tree.
        created: its creation time; another process that got the same number since is left alone. None: do not compare.
        timeout: seconds to wait for the end.

    Raises:
        PermissionError: the process belongs to another user.
    """
    root = _find(pid, created)
    if root is None:
        return
    try:
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:  # the root first, so that it starts no further ones
        _kill(process)
    psutil.wait_procs(family, timeout=timeout)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise PermissionError(f"process {process.pid} belongs to another user") from error


def _find(pid: int, created: float | None) -> psutil.Process | None:
    """The living process, or None. A zombie is dead: it only waits for its parent to take notice."""
    try:
        process = psutil.Process(pid)
        if created is not None and abs(process.create_time() - created) > _CLOCK_TOLERANCE:
            return None
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None


def let_threads_sleep() -> None:
    """Call it before a numerical library is imported: its threads then give way to other programs.

    Threads that spin long while they wait slow each other down many times over as soon as another program computes.
    Spinning briefly (GNU: rounds, LLVM and Intel: ms) is as fast on an idle machine.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("KMP_BLOCKTIME", "1")


def keep_freed_memory(platform: str = sys.platform) -> bool:
    """Let this process keep memory that it frees, for its next use; False where the C library is not glibc.

    glibc gives every large block back to the system at once, which clears each page of it when it is asked for anew: a
    third to more than half of a training step on the processor. Others do not. Call it in processes of our own only.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if platform == "linux" else None  # musl has none
    return tune is not None and bool(tune(_M_MMAP_MAX, 0) and tune(_M_TRIM_THRESHOLD, _LARGEST_INT))
