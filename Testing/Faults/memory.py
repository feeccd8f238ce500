"""A worker that runs out of memory, and a graphics card that fails in the middle of a step."""

from __future__ import annotations

import random
import resource
from pathlib import Path

from Faults import checks
from Faults.acts import ACTS
from Faults.bench import Bench, Kind
from Faults.checks import Lost

_MB = 1 << 20


class OutOfMemory(Kind):
    name = "out of memory"
    what = (
        "the address space of the process that adapts, segments or stores an edit is limited (RLIMIT_AS) to what it "
        "holds and a few MB more: the job fails in words, nothing is lost, and it can be resumed with more memory"
    )
    trials = 24

    def run(self, seed: int) -> str:
        name = ("adapt", "segment", "store an edit")[seed % 3]
        more = 2 ** (seed // 3 % 8)  # MB
        return _tried(self.bench, name, "Faults.memory:with_little_memory", more)


def with_little_memory(name: str, folder: str, more: str) -> None:
    """In a child."""
    import psutil

    held = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (held + int(more) * _MB, resource.RLIM_INFINITY))
    try:
        ACTS[name].do(Path(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class GpuError(Kind):
    name = "GPU error"
    what = (
        "what torch raises when a graphics card fails (out of memory; an error on the device) is raised in the middle "
        "of a random training step. A stand-in: no card fails. The job fails in words or goes on with less, and can "
        "be resumed"
    )
    trials = 16
    few = 1

    def run(self, seed: int) -> str:
        error = ("out of memory", "device")[seed % 2]
        return _tried(self.bench, "adapt", "Faults.memory:with_a_failing_card", error, random.Random(seed).randrange(6))


def with_a_failing_card(name: str, folder: str, error: str, step: str) -> None:
    """In a child: the n-th backward pass fails; out of memory also every later one, as where it does not fit."""
    import torch

    backward, left = torch.Tensor.backward, int(step)

    def failing(*arguments: object, **named: object) -> None:
        nonlocal left
        left -= 1
        if left < 0 and error == "out of memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if left == -1:
            raise RuntimeError("CUDA error: device-side assert triggered")
        backward(*arguments, **named)  # type: ignore[arg-type]

    torch.Tensor.backward = failing  # type: ignore[method-assign,assignment]
    ACTS[name].do(Path(folder))


def _tried(bench: Bench, name: str, function: str, *how: object) -> str:
    with bench.fresh() as folder:
        before = checks.note(folder)
        ended = bench.server.run(function, name, folder, *how)
        if ended.how not in ("done", "killed") and not _is_told(ended.text):  # native code may abort: as a kill
            raise Lost(f"it does not tell what happened: {ended.text}")
        checks.intact(folder, before, ACTS[name])
        checks.can_be_done_again(folder, before, ACTS[name], bench.server)
    return f"{name}, {' '.join(map(str, how))}: {ended.how} {ended.text[-300:]}".rstrip()


def _is_told(text: str) -> bool:
    """In words; or by the library's own error, which the command line and the worker put into words."""
    return any(words in text for words in ("emory", "graphics card failed", "could not create a primitive"))
