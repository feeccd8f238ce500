"""Linux lets one process decide on the system calls of another: each passes, or fails with an error of our choice.

This is where faults are injected: at the border of the kernel, so that native libraries (SimpleITK, safetensors,
blosc2, torch) are met as Python is, and no line of the product knows of it. See seccomp(2) and seccomp_unotify(2); no
privilege is needed. Linux 5.5 or newer.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
import sys
from dataclasses import dataclass

_LOAD, _JUMP_IF_EQUAL, _RETURN = (
    0x20,
    0x15,
    0x06,
)  # of classic BPF; a filter loads the number of the call, then compares
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NO_NEW_PRIVILEGES, _SET_FILTER, _NEW_LISTENER = 38, 1, 1 << 3
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_NOTIFICATION, _ANSWER = "=QIIiIQ6Q", "=QqiI"

_X86_64 = {
    "write": 1, "open": 2, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74, "fdatasync": 75, "truncate": 76,
    "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "openat": 257,
    "mkdirat": 258, "unlinkat": 263, "renameat": 264, "linkat": 265, "fallocate": 285, "pwritev": 296,
    "renameat2": 316, "copy_file_range": 326, "pwritev2": 328,
}  # fmt: skip
_AARCH64 = {
    "mkdirat": 34, "unlinkat": 35, "linkat": 37, "renameat": 38, "truncate": 45, "ftruncate": 46, "fallocate": 47,
    "openat": 56, "write": 64, "writev": 66, "pwrite64": 68, "pwritev": 70, "sendfile": 71, "fsync": 82,
    "fdatasync": 83, "renameat2": 276, "copy_file_range": 285, "pwritev2": 287,
}  # fmt: skip
_SECCOMP = {"x86_64": 317, "aarch64": 277}
NUMBERS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine(), {})
NAMES = {number: name for name, number in NUMBERS.items()}


def unavailable() -> str:
    """Why calls cannot be intercepted here; empty if they can."""
    if sys.platform != "linux" or not NUMBERS:
        return "system calls are intercepted on Linux only (x86-64, ARM64)"
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    return "" if release >= (5, 5) else "system calls are intercepted by Linux 5.5 or newer"


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


def intercept() -> int:
    """From now on the calls of NUMBERS that this thread, its later threads and children make wait for an answer.

    Returns a file descriptor for whoever answers. Raises OSError if the kernel refuses.
    """
    numbers = sorted(NUMBERS.values())
    program = [_Instruction(_LOAD, 0, 0, 0)]
    program += [_Instruction(_JUMP_IF_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    program += [_Instruction(_RETURN, 0, 0, _ALLOW), _Instruction(_RETURN, 0, 0, _NOTIFY)]
    array = (_Instruction * len(program))(*program)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    described = ctypes.byref(_Program(len(program), array))
    listener = libc.syscall(_SECCOMP[platform.machine()], _SET_FILTER, _NEW_LISTENER, described)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


@dataclass(frozen=True)
class Notification:
    """A call that waits. `thread` is its number; `arguments` are as the kernel sees them."""

    id: int
    thread: int
    name: str
    arguments: tuple[int, ...]


def receive(listener: int) -> Notification | None:
    """The next call; None if its process has died meanwhile."""
    buffer = bytearray(struct.calcsize(_NOTIFICATION))
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    number, thread, _, call, _, _, *arguments = struct.unpack(_NOTIFICATION, buffer)
    return Notification(number, thread, NAMES[call], tuple(arguments))


def answer(listener: int, notification: Notification, error: int = 0) -> None:
    """Let the call pass (0), or fail with an error number."""
    reply = struct.pack(_ANSWER, notification.id, 0, -error, 0 if error else _CONTINUE)
    try:
        fcntl.ioctl(listener, _SEND, bytearray(reply))
    except OSError as gone:
        if gone.errno != errno.ENOENT:  # its process was killed meanwhile
            raise


def text_at(thread: int, address: int) -> str:
    """The path that a call's argument points to. Raises OSError if its process is gone."""
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        found = b""
        while b"\0" not in found and len(found) < 4096:
            found += memory.read(min(256, 4096 - (address + len(found)) % 4096))  # never past the end of a page
    return os.fsdecode(found.split(b"\0", 1)[0])
