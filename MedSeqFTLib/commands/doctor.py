"""`medseqft doctor`"""

from __future__ import annotations

from typing import TYPE_CHECKING

from MedSeqFTLib.commands.console import HERE, JsonOption, WorkspaceOption, print_facts, print_json, say, warn

if TYPE_CHECKING:
    from MedSeqFTLib.jobs.environment import Environment

_GIB = 1 << 30


def doctor(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Show what this computer offers, and what to do about what is missing."""
    from MedSeqFTLib.jobs.environment import environment

    found = environment(workspace)
    if as_json:
        print_json(found)
        return
    print_facts(_facts(found))
    for advice in found.advice:
        warn(advice)
    say("Ready to adapt models." if found.ready else "Not ready to adapt models yet.")


def _facts(found: Environment) -> list[tuple[str, object]]:
    return [
        ("MedSeqFT", found.medseqft),
        ("Python", f"{found.python} on {found.system}"),
        *((name, version or "missing") for name, version in found.libraries.items()),
        ("Device", _device(found)),
        ("Memory", f"{found.memory / _GIB:.1f} GiB, {found.memory_free / _GIB:.1f} GiB free; {found.cores} cores"),
        ("Workspace", found.workspace if found.workspace_found else f"none at {found.workspace}"),
        ("Free disk", f"{found.disk_free / _GIB:.1f} GiB"),
    ]


def _device(found: Environment) -> str:
    if found.device is None:
        return "unknown without torch"
    memory = f", {found.device.memory / _GIB:.1f} GiB" if found.device.memory else ""
    precision = "bfloat16" if found.device.bfloat16 else "float32"
    return f"{found.device.kind} ({found.device.name}{memory}), faster in {precision}"
