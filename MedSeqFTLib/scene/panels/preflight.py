"""What an adaptation needs, looked at before it is started: what is there, and how to mend what is not. Torch-free."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from slicer.i18n import tr as _

from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.panels.computer import GIB, LITTLE_DISK, LITTLE_MEMORY, disk_free, memory_free
from MedSeqFTLib.scene.panels.gpu_probe import GpuProbe
from MedSeqFTLib.scene.panels.packages import is_cpu_build, version_of

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.workspace import Workspace

Mark = Literal["good", "doubtful", "bad", "asked"]
_SIGNS: dict[Mark, str] = {"good": "\u2714", "doubtful": "\u26a0", "bad": "\u2718", "asked": "\u2026"}
_NO_DISK = _NO_MEMORY = 1 * GIB  # free bytes
_LITTLE_GPU_MEMORY = 4 * GIB


class Check(NamedTuple):
    """One line of the list. Only a bad one prevents the start."""

    name: str
    mark: Mark
    found: str
    mend: str = ""


def preflight(workspace: Workspace, task: str, preset: str, gpu: GpuProbe) -> list[Check]:
    """Everything, in the order in which it is shown."""
    return [
        *_cases(workspace, task),
        *_cross_validation(workspace, task, preset),
        _model(workspace, task, preset),
        _disk(workspace.folder),
        _memory(),
        _gpu(gpu),
        _others(workspace),
    ]


def obstacle(checks: Iterable[Check]) -> str:
    """Why no adaptation can be started; "" if one can."""
    bad = [check for check in checks if check.mark == "bad"]
    return "\n".join(_("{name}: {found} {mend}").format(**check._asdict()) for check in bad)


def as_html(checks: Iterable[Check]) -> str:
    """For a label, one check a row."""
    return f"<table>{''.join(map(_row, checks))}</table>"


def _row(check: Check) -> str:
    mend = f"<br><i>{html.escape(check.mend)}</i>" if check.mend else ""
    return (
        f"<tr><td>{_SIGNS[check.mark]}&nbsp;</td>"
        f"<td><b>{html.escape(check.name)}:</b> {html.escape(check.found)}{mend}</td></tr>"
    )


def _cases(workspace: Workspace, task: str) -> list[Check]:
    from MedSeqFTLib.learning.preflight import new_cases
    from MedSeqFTLib.workspace.schema import Role

    train, held_out = (len(workspace.cases(task, role)) for role in (Role.TRAIN, Role.VALIDATION))
    current = workspace.pointers().tasks.get(task, "")
    return [_train(train, len(new_cases(workspace, task)), current), _held_out(train, held_out)]


def _train(train: int, new: int, current: str) -> Check:
    name = _("Training cases")
    if not train:
        return Check(name, "bad", _("none."), _("Accept cases with the role train in Correct."))
    if not new:
        found = _("{count}, and {version} has learned all of them.").format(count=train, version=current)
        return Check(name, "bad", found, _("Accept more cases with the role train in Correct."))
    return Check(name, "good", _("{count}, of which {new} are new or corrected since.").format(count=train, new=new))


def _held_out(train: int, count: int) -> Check:
    from MedSeqFTLib.learning.split import suggested_split

    name, split = _("Held-out cases"), suggested_split(train, count)
    if split is None:
        return Check(name, "good", str(count))
    if split.role.value == "validation":
        mend = _("Cases to hold out next: {count}. Accept them with the role validation in Correct.")
    else:
        mend = _("Cases to give the role train next: {count}. Then hold one out with the role validation.")
    mend = mend.format(count=split.next_cases)
    if not count:
        return Check(name, "doubtful", _("none, so nothing will show whether the new version is better."), mend)
    found = _("{count} of {all}; with fewer than five, what they show is rough.")
    return Check(name, "good", found.format(count=count, all=train + count), mend)


def _cross_validation(workspace: Workspace, task: str, preset: str) -> list[Check]:
    """Only where the preset asks for it and few cases are held out."""
    from MedSeqFTLib.learning.folds import plan_folds
    from MedSeqFTLib.learning.settings import adapt_settings

    name, plan = _("Cross-validation"), plan_folds(workspace, task, adapt_settings(preset, {}))
    if plan.why_not:
        return [Check(name, "doubtful", _("none: {why}.").format(why=plan.why_not))]
    if not plan.folds:
        return []
    found = _("{cases} new cases in {folds} folds, so stage A is trained {folds} times more.")
    return [Check(name, "good", found.format(cases=sum(plan.sizes), folds=len(plan.folds)))]


def _model(workspace: Workspace, task: str, preset: str) -> Check:
    """What the library would refuse beyond the cases: it has the last word."""
    from MedSeqFTLib.learning.preflight import check_selection
    from MedSeqFTLib.learning.settings import adapt_settings

    name, chain = _("Begins with"), workspace.chain_version()
    foundation = workspace.foundation_of(chain)
    if chain is None or foundation is None:
        return Check(name, "good", _("the starter model that comes with MedSeqFT"))
    try:
        check_selection(foundation, adapt_settings(preset, {}))
    except MedSeqFTError as error:
        return Check(name, "bad", _("{version}.").format(version=chain.id), str(error))
    return Check(name, "good", chain.id)


def _disk(folder: Path) -> Check:
    name = _("Disk")
    if not os.access(folder, os.W_OK):
        mend = _("Mount it so that it can be written, or copy the workspace to another disk and open it there.")
        return Check(name, "bad", _("{folder} cannot be written.").format(folder=folder), mend)
    mend = _("Free some on the disk of {folder}.").format(folder=folder)
    return _enough(name, disk_free(folder), (_NO_DISK, LITTLE_DISK), mend)


def _memory() -> Check:
    name, free = _("Memory"), memory_free()
    if free is None:
        return Check(name, "doubtful", _("nobody tells how much is free."))
    return _enough(name, free, (_NO_MEMORY, LITTLE_MEMORY), _("Close other programs, or volumes in the scene."))


def _enough(name: str, free: int, limits: tuple[int, int], mend: str) -> Check:
    none, little = limits
    mark: Mark = "bad" if free < none else "doubtful" if free < little else "good"
    return Check(name, mark, _("{size} free").format(size=_size(free)), "" if mark == "good" else mend)


def _gpu(probe: GpuProbe) -> Check:
    name = _("GPU")
    if not probe.answered:
        return Check(name, "asked", _("looking..."))
    if not probe.gpus:
        mend = _("It works on the processor, too, but takes many times longer.")
        return Check(name, "doubtful", _("none found."), mend)
    gpu = probe.gpus[0]
    if is_cpu_build(version_of("torch")):
        mend = _("Install a PyTorch for this GPU with the extension PyTorch.")
        return Check(name, "doubtful", _("{name}, but PyTorch does not use it.").format(name=gpu.name), mend)
    if gpu.free is None or gpu.total is None:
        return Check(name, "good", gpu.name)
    found = _("{name}, {free} of {total} free")
    found = found.format(name=gpu.name, free=_size(gpu.free), total=_size(gpu.total))
    if gpu.free < _LITTLE_GPU_MEMORY:
        mend = _("Close programs that use the GPU; less is computed at a time if need be.")
        return Check(name, "doubtful", found, mend)
    return Check(name, "good", found)


def _others(workspace: Workspace) -> Check:
    from MedSeqFTLib.jobs import control
    from MedSeqFTLib.jobs.job import ACTIVE, EXCLUSIVE

    name, jobs = _("Nothing else running"), control.list_jobs(workspace)
    running = [folder.job for folder in jobs if folder.state() in ACTIVE]
    busy = next((job for job in running if job.kind in EXCLUSIVE), None)
    if busy is not None:
        found = _("{job} is being worked on.").format(job=busy.id)
        return Check(name, "bad", found, _("Wait for it, or cancel it where it was started."))
    storing = sum(job.kind == "accept" for job in running)
    if storing:
        found = _("{count} accepted cases are still being stored.").format(count=storing)
        return Check(name, "doubtful", found, _("Wait a moment, or they are not learned."))
    waiting = [folder for folder in jobs if folder.job.kind == "accept" and folder.input_folder.exists()]
    if lost := len(waiting):  # none of them is running: see above
        found = _("{count} accepted cases could not be stored.").format(count=lost)
        return Check(name, "doubtful", found, _("Resume them in Correct, or they are not learned."))
    return Check(name, "good", _("yes"))


def _size(size: int) -> str:
    return _("{size} GiB").format(size=f"{size / GIB:.1f}")
