"""Trying one reader on one damaged file after another, in a process with a limit on its memory."""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

from samples import Reader, Sample, files_below

from MedSeqFTLib.errors import MedSeqFTError

MEMORY = 2 << 30  # bytes above what the process has when it begins; twice as many addresses
SECONDS = 5.0  # of processor time
REFUSED, READ, FAILED = "refused", "read", "failed"
_OUT_OF_MEMORY = re.compile(
    r"bad_?alloc|(can't|cannot|failed to|unable to) allocate|out of memory|not enough memory", re.IGNORECASE
)


_MODULES = {
    "images": ("NRRD", ".seg.nrrd", "NIfTI", "NIfTI label map", "MetaImage", "DICOM series"),
    "documents": (
        "Decathlon dataset.json",
        "nnU-Net dataset.json",
        "workspace documents",
        "workspace archive",
        "audit.jsonl",
        "jobs and events",
        "benchmark TOML",
        "pre-training TOML",
    ),
    "tensors": (
        "safetensors",
        "PyTorch checkpoints",
        "weights of a version",
        "LoRA adapter",
        "training checkpoint",
    ),
}
NAMES = tuple(name for names in _MODULES.values() for name in names)


def reader_named(name: str) -> Reader:
    """Imports no more than this reader needs."""
    module = next(module for module, names in _MODULES.items() if name in names)
    found: Reader = next(reader for reader in importlib.import_module(module).READERS if reader.name == name)
    return found


def try_cases(
    reader: Reader, seed: int, cases: range, folder: Path, *, limited: bool = True
) -> Iterator[tuple[int, str, str]]:
    """Damage and read. Yields the number of the case, the outcome and, of a failure, what happened.

    A number and the seed determine a case. Its files lie in folder / "case", and stay after a failure.

    Args:
        limited: give this process a limit on its memory, for good.
    """
    scratch, place = folder / "scratch", folder / "case"
    scratch.mkdir(parents=True)
    samples = list(reader.make(scratch))
    for sample in samples:  # valid files are read: a reader that refuses everything would pass every check
        _lay_out(place, sample.files)
        if sample.readable:
            reader.read(place, sample)
    if limited:
        _limit_memory()
    laid_out: Sample | None = None
    for number in cases:
        chance = random.Random(f"{seed} {reader.name} {number}")
        sample = chance.choice(samples)
        if sample is not laid_out:
            _lay_out(place, sample.files)
            laid_out = sample
        target = chance.choice(sample.targets)
        data = sample.mutate(chance, sample.files[target])
        (place / target).write_bytes(data)
        outcome, words = _outcome(reader, place, sample)
        changed = _content(place) != {**sample.files, target: data}
        if changed and outcome != FAILED:
            outcome, words = FAILED, "the files were changed"
        yield number, outcome, words
        if outcome == FAILED:
            shutil.copytree(place, folder / f"failed-{number}")
        if changed:
            laid_out = None
        (place / target).write_bytes(sample.files[target])


def _content(place: Path) -> dict[str, bytes]:
    """Without the locks that reading takes."""
    return {name: data for name, data in files_below(place).items() if not name.endswith(".lock")}


def _lay_out(place: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(place, ignore_errors=True)
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _outcome(reader: Reader, place: Path, sample: Sample) -> tuple[str, str]:
    start, before = time.process_time(), _peak()
    try:
        reader.read(place, sample)
        outcome, words = READ, ""
    except MedSeqFTError as error:
        outcome, words = _judged(error, reader)
    except Exception:  # noqa: BLE001 - whatever comes out here is what is looked for
        outcome, words = FAILED, traceback.format_exc(limit=-6)
    spent = time.process_time() - start
    if (grown := (_peak() - before) << 10) > MEMORY:
        outcome, words = FAILED, f"{grown >> 20} MiB of memory"
    if spent > SECONDS:
        outcome, words = FAILED, f"{spent:.1f} s of processor time"
    return outcome, words


def _peak() -> int:
    """KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _judged(error: MedSeqFTError, reader: Reader) -> tuple[str, str]:
    """Refused, unless the message is unfit to be shown, or memory ran out before."""
    message = str(error)
    chain: BaseException | None = error
    while chain is not None and not reader.reserves:
        if isinstance(chain, MemoryError) or _OUT_OF_MEMORY.search(str(chain)):
            return FAILED, f"memory ran out: {message[:300]}"
        chain = chain.__cause__ or chain.__context__
    if not message.isprintable() or len(message) > 2000:
        return FAILED, f"unfit to be shown ({len(message)} characters): {message[:300]!r}"
    return REFUSED, ""


def main(arguments: list[str]) -> None:
    """The child process: NAME SEED FIRST LAST FOLDER. One line of JSON a case on stdout."""
    name, seed, first, last, folder = arguments
    told = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print what they like
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    try:
        for result in try_cases(reader_named(name), int(seed), range(int(first), int(last)), Path(folder)):
            print(json.dumps(result), file=told)
    except Exception:  # noqa: BLE001 - the parent shows it
        print(json.dumps([-1, FAILED, traceback.format_exc()]), file=told)
        sys.exit(1)
