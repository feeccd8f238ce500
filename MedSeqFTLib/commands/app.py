"""The command line `medseqft`: its commands, and what happens to errors."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup

from MedSeqFTLib.commands import (
    adapt,
    analyse,
    audit,
    benchmark,
    case,
    demo,
    doctor,
    drift,
    export,
    import_decathlon,
    init,
    jobs,
    models,
    pretrain,
    report,
    segment,
    task,
    workspace,
)
from MedSeqFTLib.commands.console import complain, messages
from MedSeqFTLib.errors import MedSeqFTError, visible, what_the_computer_lacks

FAILED = 1
BUG = 3
INTERRUPTED = 130
UNUSABLE_INPUT = 2


class Commands(TyperGroup):
    """The top of the command line: turns every error into a message and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        run = partial(super().main, arguments, prog_name, complete_var, False, windows_expand_args, **extra)
        code = exit_code_of(run)
        if not standalone_mode:
            return code
        sys.exit(code)


def exit_code_of(action: Callable[[], Any]) -> int:
    """Run `action` and tell a person what went wrong: one line for what they can mend, a traceback for a bug."""
    try:
        result = action()
    except MedSeqFTError as error:
        complain(str(error))
        return error.exit_code
    except typer.TyperException as error:  # an unknown option, a missing value and the like
        complain(f"{error.format_message()} See --help.")
        return UNUSABLE_INPUT
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost boundary: whatever else arrives here is a bug
        if lacking := what_the_computer_lacks(error, "give the command again: nothing half-written was left"):
            error.__traceback__ = None  # its frames hold what fills the memory, and telling takes some
            complain(f"{lacking}.")
            return FAILED
        messages.print("[red]This is a bug in MedSeqFT. Please report it with the lines below.[/red]", soft_wrap=True)
        typer.echo(visible(traceback.format_exc()), err=True)
        return BUG
    if result == INTERRUPTED:
        complain("interrupted")
    return result if isinstance(result, int) else 0


app = typer.Typer(
    cls=Commands,
    help="Sequential fine-tuning of segmentation foundation models.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.add_typer(task.app, name="task")
app.add_typer(case.app, name="case")
app.add_typer(models.app, name="models")
app.command("adapt")(adapt.adapt)
app.add_typer(jobs.app, name="jobs")
app.command("pretrain")(pretrain.pretrain)
app.command("segment")(segment.segment)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("drift")(drift.drift)
app.add_typer(analyse.app, name="analyse")
app.add_typer(audit.app, name="audit")
app.add_typer(workspace.app, name="workspace")
app.command("import-decathlon")(import_decathlon.import_decathlon)
app.command("benchmark")(benchmark.benchmark)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """The console script `medseqft`."""
    from MedSeqFTLib.jobs.system import keep_freed_memory

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # Windows consoles cannot show every letter
    keep_freed_memory()  # what a command computes in the foreground is as fast as in a worker
    app(prog_name="medseqft")
