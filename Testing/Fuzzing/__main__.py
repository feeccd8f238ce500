"""Damaged files for every reader that meets files from outside.

python Testing/Fuzzing [--cases 20000] [--only READER] [--seed N] [--keep FOLDER]

Every file must be read, or refused with one of our own errors in one printable line, within 5 s of processor time and
with at most 2 GiB of memory, and must not be changed. Each reader works in a process of its own, which may crash: the
case is named, kept, and left out. A case is made again by its number and the seed. Exit code 1: something failed.
Linux only.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import running
import trying

_FAST = Path("/dev/shm")  # files in memory


def main() -> int:
    parser = argparse.ArgumentParser(prog="python Testing/Fuzzing", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000, help="for each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", action="append", choices=trying.NAMES, help="a reader; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where failed cases are kept")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        trying.main(options.child)
        return 0
    keep = options.keep or Path(tempfile.mkdtemp(prefix="fuzzing-failed-"))
    with tempfile.TemporaryDirectory(dir=_FAST if os.access(_FAST, os.W_OK) else None) as folder:
        cases = range(options.first, options.first + options.cases)
        names = options.only or trying.NAMES
        results = [running.run(name, options.seed, cases, Path(folder), keep) for name in names]
    print(running.table(results))
    return int(any(result.failures for result in results))


if __name__ == "__main__":
    sys.exit(main())
