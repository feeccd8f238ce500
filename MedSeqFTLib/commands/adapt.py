"""`medseqft adapt`"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from MedSeqFTLib.commands.console import HERE, JsonOption, WorkspaceOption, open_workspace
from MedSeqFTLib.errors import InputError

Preset = Literal["quick", "balanced", "thorough"]


def adapt(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")],
    preset: Annotated[Preset, typer.Option(help="How long to train.")] = "balanced",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same model on a CPU.")] = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cuda, cuda:0, mps or cpu.")] = "auto",
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as lora_rank=4; repeatable.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show the progress.")] = False,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Adapt the model to a task with its accepted cases, in the background."""
    from MedSeqFTLib.commands.outcome import wait_or_leave
    from MedSeqFTLib.jobs.starting import start_adaptation

    opened = open_workspace(workspace)
    folder = start_adaptation(opened, task, preset, {"device": device, **_pairs(change or [])}, seed=seed)
    wait_or_leave(opened, folder, wait, as_json)


def _pairs(changes: list[str]) -> dict[str, str]:
    """ "key=value" texts as a dictionary. Raises InputError."""
    pairs = {}
    for text in changes:
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise InputError(f"--set {text!r} cannot be read; write it as KEY=VALUE, for instance --set lora_rank=4.")
        pairs[key.strip()] = value.strip()
    return pairs
