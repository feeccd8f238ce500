"""What the benchmarks share: a made-up scan, timing in turns, peak memory of a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from MedSeqFTLib.jobs.system import keep_freed_memory

keep_freed_memory()  # as in every process of ours that computes; peers are timed in the same


def smooth_scan(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """Smooth structures, scanner noise and empty air around, as a scan has: int16 [z, y, x]."""
    from scipy.ndimage import gaussian_filter, zoom

    random = np.random.default_rng(seed)
    coarse = gaussian_filter(random.normal(size=[side // 8 for side in shape]), 1.5)
    pixels = zoom(coarse, 8, order=1) * 2500 + random.normal(0, 12, shape) + 300
    inside = np.linalg.norm(np.indices(shape) / np.reshape(shape, (3, 1, 1, 1)) - 0.5, axis=0) < 0.48
    return np.where(inside, np.clip(pixels, -1000, 3000), -1000).astype(np.int16)


def clock() -> float:
    """Seconds: of this process's own computing where torch has one thread, so that other work beside it does not count;
    else by the clock on the wall.
    """
    import torch

    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def in_turns(
    variants: Mapping[str, Callable[[], Any]], rounds: int, typical: Callable[[Sequence[float]], float] = min
) -> dict[str, float]:
    """Seconds of each variant, `typical` of its rounds; they take turns, so that a slow spell meets all."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: typical(values) for name, values in seconds.items()}


def peak_memory(run: Callable[..., Any], *arguments: Any) -> float:
    """MiB by which a fresh process grows, at its peak, over what it held before what `run` prepares is called."""
    return costs(run, *arguments)[1]


def costs(run: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    """Seconds and MiB, as in `peak_memory`, of what `run(*arguments)` returns to be called, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, run, arguments))
    process.start()
    measured: tuple[float, float] = receiver.recv()
    process.join()
    return measured


def _measure(sender: Any, run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import threading

    process, peak, done = psutil.Process(), [0], threading.Event()
    prepared = run(*arguments)
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = clock()
    prepared()
    seconds = clock() - started
    done.set()
    watcher.join()
    sender.send((seconds, (peak[0] - before) / 2**20))


def machine() -> str:
    """What the figures were measured on."""
    import torch

    return f"{sys.platform}, {torch.get_num_threads()} threads, torch {torch.__version__}"


class Silent:
    """A reporter that only gives a place for checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage(self, *_: object, **__: object) -> None: ...

    def step(self, *_: object, **__: object) -> None: ...

    def message(self, text: str) -> None: ...

    def warning(self, text: str) -> None: ...

    def check_cancel(self) -> None: ...
