"""`medseqft benchmark`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from MedSeqFTLib.commands.console import print_table, progress_bar, say, warn
from MedSeqFTLib.commands.watching import duration

if TYPE_CHECKING:
    from MedSeqFTLib.learning.benchmark.session import Session
    from MedSeqFTLib.models.compute import Compute


def benchmark(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A TOML file, or one that ships: smoke, small-real, paper-like.")
    ],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the data sets.", show_default="the file's own")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go.", show_default="./benchmark-NAME")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and estimate it.")] = False,
    report_only: Annotated[bool, typer.Option("--report", help="Only write tables and pages of what is done.")] = False,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, mps, cuda or cuda:N", show_default="the file's own, or auto")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=0, help="CPU threads; 0: all.", show_default="the file's own, or 0")
    ] = None,
) -> None:
    """Run task sequences under several strategies, and compare them.

    What is finished is kept: the same command goes on after a stop or a kill. Several of them may work on one folder.
    """
    from MedSeqFTLib.jobs.system import let_threads_sleep
    from MedSeqFTLib.learning.benchmark.config import read_config, shipped_config

    let_threads_sleep()
    source = shipped_config(config) or Path(config)
    wanted = read_config(source)

    computing = wanted.computing(device=device, threads=threads)

    from MedSeqFTLib.quick_import import import_monai

    import_monai()
    from MedSeqFTLib.learning.benchmark.session import Session
    from MedSeqFTLib.learning.runtime import settle_compute, use_threads
    from MedSeqFTLib.models.compute import choose_compute

    use_threads(computing.threads)  # the import and the estimate keep to them, too
    session = Session(wanted, source, data or source.parent, folder or Path(f"benchmark-{source.stem}"))
    if dry_run:
        _say_plan(session, choose_compute(computing.device, computing.precision))
        return
    with _Screen() as screen:
        material = session.material(screen)
        if not report_only:
            session.run(material, settle_compute(computing, session.folder, screen), screen)
        page = session.write(material)
    say(f"Tables, pictures and page: {page}")


def _say_plan(session: Session, compute: Compute) -> None:
    """What would be done, and what is missing for it."""
    runs, cells = session.plan()
    guess = session.estimate(compute)
    rows = []
    for strategy in session.config.strategies:
        own = {cell.key: cell for run in runs if run.strategy is strategy for cell in run.cells}
        rows.append((strategy.name, len(own), sum(cell.steps for cell in own.values())))
    print_table(("Strategy", "Stages", "Steps"), rows, "no strategy")
    seconds = guess.seconds(cells, session.config)
    say(f"{len(cells)} stages in all, those in common once: about {duration(seconds)} on {compute}.")
    say(
        f"A step of plain fine-tuning took {guess.step_seconds:.2f} s with patches of the foundation model's size, and "
        f"needs about {guess.step_mib:.0f} MiB; strategies with a teacher need up to twice that."
    )
    session.refuse_missing()


class _Screen:
    """The progress of a benchmark: a bar on a terminal, elsewhere a line for what is finished."""

    def __init__(self) -> None:
        self._bar = progress_bar()
        self._line = self._bar.add_task("starting", total=None)

    def __enter__(self) -> _Screen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def plan(self, stages: object) -> None: ...

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self._bar.reset(self._line, total=total, completed=done, description=name)

    def step(self, step: int, losses: object = None) -> None:
        self._bar.update(self._line, completed=step)

    def message(self, text: str) -> None:
        say(text)

    def warning(self, text: str) -> None:
        warn(text)

    def device(self, device: str, text: str | None = None) -> None:
        say(text or device)

    def check_cancel(self) -> None: ...
