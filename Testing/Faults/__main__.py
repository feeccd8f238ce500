"""`python Testing/Faults`: interrupt, refuse and damage, and look whether anything is lost. Exit code 1 if it is."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from Faults.table import Row

TESTING = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(TESTING.parent), str(TESTING), str(TESTING / "Python")]


def main(arguments: list[str] | None = None) -> int:
    from Faults.kinds import KINDS
    from Faults.table import explained, markdown

    options = _parser([kind.name for kind in KINDS]).parse_args(arguments)
    os.nice(5)
    with tempfile.TemporaryDirectory(prefix="faults-", dir=options.scratch) as scratch:
        rows = _rows(Path(scratch), options)
    text = f"{markdown(rows)}\n\n{explained(rows)}\n"
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    return int(any(row.lost for row in rows))


def _rows(scratch: Path, options: argparse.Namespace) -> list[Row]:
    from Faults.bench import Bench
    from Faults.children import Server
    from Faults.kinds import KINDS
    from Faults.table import tried

    with Server(scratch / "children.log") as server:
        bench = Bench(scratch, server)
        chosen = [kind(bench) for kind in KINDS if not options.only or kind.name in options.only]
        return [tried(kind, options.trials, _tell(options.verbose)) for kind in chosen]


def _tell(verbose: bool) -> Callable[[str], None]:
    return lambda line: print(line, flush=True) if verbose or "LOST" in line else None


def _parser(names: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python Testing/Faults", description=__doc__)
    parser.add_argument("--trials", type=int, help="at most so many of each kind; by default all")
    parser.add_argument("--only", action="append", choices=names, metavar="KIND", help=f"one of: {', '.join(names)}")
    parser.add_argument("--write", type=Path, help="a file for the table, in Markdown")
    parser.add_argument("--scratch", type=Path, help="where the trials' workspaces are made; by default TMPDIR")
    parser.add_argument("--verbose", action="store_true", help="tell of every trial")
    return parser


if __name__ == "__main__":
    sys.exit(main())
