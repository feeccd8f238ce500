"""The parent: one child process a reader, started again behind a case that crashed or never ended."""

from __future__ import annotations

import json
import re
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trying import FAILED, READ, REFUSED

_PATIENCE = 60.0  # seconds without a word: three cores' worth of a busy machine; processor time is limited in the child
_SHOWN = 5  # failures of a reader
_LONGEST_LINE = 300  # characters


@dataclass
class Result:
    """What became of one reader's cases."""

    reader: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((REFUSED, READ, FAILED), 0))
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(reader: str, seed: int, cases: range, folder: Path, keep: Path) -> Result:
    """Try the cases of a reader, in as many processes as it takes."""
    result, begin, run_number = Result(reader), time.monotonic(), 0
    left = cases
    while left:
        place = folder / f"{_file_name(reader)}-{run_number}"
        done, ending = _child(reader, seed, left, place, result)
        if done < len(left) and ending:
            _failed(result, left[done], ending)
            shutil.copytree(place / "case", place / f"failed-{left[done]}", dirs_exist_ok=True)
            done += 1
        for failed in place.glob("failed-*"):
            shutil.copytree(failed, keep / _file_name(reader) / failed.name, dirs_exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        left, run_number = left[done:], run_number + 1
    result.seconds = time.monotonic() - begin
    print(f"{reader}: {result.counts}, {result.seconds:.0f} s", file=sys.stderr, flush=True)
    for failure in result.failures[:_SHOWN]:
        print(_short(failure), file=sys.stderr, flush=True)
    return result


def _short(text: str) -> str:
    return "\n".join("  " + line[:_LONGEST_LINE] for line in text.splitlines())


def _child(reader: str, seed: int, cases: range, place: Path, result: Result) -> tuple[int, str]:
    """How many cases were done, and what ended the process before the last; empty if nothing did."""
    here = str(Path(__file__).parent)
    arguments = [reader, seed, cases.start, cases.stop, place]
    command = [sys.executable, here, "--child", *map(str, arguments)]
    done = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(_PATIENCE):
                    process.kill()
                    return done, f"no answer for {_PATIENCE:g} s"
                if not (line := process.stdout.readline()):
                    break
                number, outcome, words = json.loads(line)
                if number < 0:
                    raise RuntimeError(f"{reader}: {words}")
                done += 1
                result.counts[outcome] += 1
                if outcome == FAILED:
                    result.failures.append(f"case {number}: {words}")
    return done, f"the process ended with {process.returncode}" if process.returncode else ""


def _failed(result: Result, number: int, words: str) -> None:
    result.counts[FAILED] += 1
    result.failures.append(f"case {number}: {words}")


def _file_name(reader: str) -> str:
    return re.sub(r"\W+", "-", reader).strip("-")


def table(results: Sequence[Result]) -> str:
    """Markdown: reader, cases, refused clearly, read, failures, seconds."""
    head = ["| Reader | Cases | Refused clearly | Read | Failures | Seconds |", "|---|---:|---:|---:|---:|---:|"]
    rows = [
        f"| {r.reader} | {sum(r.counts.values())} | {r.counts[REFUSED]} | {r.counts[READ]} | {r.counts[FAILED]} "
        f"| {r.seconds:.0f} |"
        for r in results
    ]
    return "\n".join([*head, *rows])
