"""`medseqft benchmark`"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from MedSeqFTLib.commands.computing import chosen_compute
from MedSeqFTLib.commands.console import print_table, progress_bar, say, warn
from MedSeqFTLib.commands.watching import duration

if TYPE_CHECKING:
    from MedSeqFTLib.learning.benchmark.session import Session
    from MedSeqFTLib.learning.settings import Settings
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
        int | None,
        typer.Option(min=0, help="CPU threads of a process; 0: all, shared out.", show_default="the file's own, or 0"),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the work.")] = 1,
    leader: Annotated[int | None, typer.Option(hidden=True, help="PID of the process that this one helps.")] = None,
) -> None:
    """Run task sequences under several strategies, and compare them.

    What is finished is kept: the same command goes on after a stop or a kill. Several of them may work on one folder.
    """
    from MedSeqFTLib.jobs.system import let_threads_sleep
    from MedSeqFTLib.learning.benchmark.config import read_config, shipped_config

    let_threads_sleep()
    source = shipped_config(config) or Path(config)
    wanted = read_config(source)
    computing = _shared_out(wanted.computing(device=device, threads=threads), processes)

    from MedSeqFTLib.quick_import import import_monai

    import_monai()
    from MedSeqFTLib.learning.benchmark.session import Session
    from MedSeqFTLib.learning.runtime import use_threads

    use_threads(computing.threads)  # the import and the estimate keep to them, too
    session = Session(wanted, source, data or source.parent, folder or Path(f"benchmark-{source.stem}"))
    if dry_run:
        _say_plan(session, chosen_compute(computing.device, computing.precision))
        return
    if leader is None:
        _lead(session, computing, processes, report_only)
    else:
        _help(session, computing, processes, leader)


def _shared_out(computing: Settings, processes: int) -> Settings:
    """With so few threads that all processes together ask for no more cores than there are."""
    from MedSeqFTLib.jobs.system import usable_cores

    if computing.threads or processes == 1:
        return computing
    return computing.model_copy(update={"threads": max(1, usable_cores() // processes)})


def _lead(session: Session, computing: Settings, processes: int, report_only: bool) -> None:
    """Compute what is missing, with helpers if there shall be more processes, and write what came out."""
    from MedSeqFTLib.commands.helpers import Helpers
    from MedSeqFTLib.learning.runtime import settle_compute

    helpers = Helpers(processes - 1, _helping(session, computing, processes), session.folder)
    with _Screen(helpers.check) as screen:
        material = session.material(screen)
        if not report_only:
            compute = settle_compute(computing, session.folder, screen)  # helpers find what was measured
            with helpers:
                session.run(material, compute, screen, processes)
                helpers.wait()
            for text in helpers.warnings():
                warn(text)
        page = session.write(material)
    say(f"Tables, pictures and page: {page}")


def _help(session: Session, computing: Settings, processes: int, leader: int) -> None:
    """Compute what is missing beside another process, which does all the rest."""
    from MedSeqFTLib.commands.helpers import Leader
    from MedSeqFTLib.learning.runtime import settle_compute

    with _Screen(Leader(leader).check) as screen:
        material = session.material(screen)
        session.run(material, settle_compute(computing, session.folder, screen), screen, processes)


def _helping(session: Session, computing: Settings, processes: int) -> list[str]:
    """The arguments with which a further process helps."""
    options = {
        "--data": session.data.absolute(),
        "--folder": session.folder.absolute(),
        "--device": computing.device,
        "--threads": computing.threads,
        "--processes": processes,
        "--leader": os.getpid(),
    }
    return ["benchmark", str(session.source.absolute()), *(str(word) for pair in options.items() for word in pair)]


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
    say(f"{len(cells)} stages in all, those in common once: about {duration(seconds)} by one process on {compute}.")
    say(
        f"A step of plain fine-tuning took {guess.step_seconds:.2f} s with patches of the foundation model's size, and "
        f"needs about {guess.step_mib:.0f} MiB; strategies with a teacher need up to twice that."
    )
    session.refuse_missing()


class _Screen:
    """The progress of a benchmark: a bar on a terminal, elsewhere a line for what is finished.

    `check` is called often, and may raise to stop the work.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
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

    def step(self, step: int, losses: object = None, *, dice: object = None) -> None:
        self._bar.update(self._line, completed=step)
        self._check()

    def message(self, text: str) -> None:
        say(text)

    def warning(self, text: str) -> None:
        warn(text)

    def device(self, device: str, text: str | None = None) -> None:
        say(text or device)

    def check_cancel(self) -> None:
        self._check()
