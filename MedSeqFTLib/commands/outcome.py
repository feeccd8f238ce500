"""The end of a job: what the new model version is worth, on its own task and on the earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from MedSeqFTLib.commands.console import print_json, print_table, say
from MedSeqFTLib.commands.watching import job_document, say_started, wait_for
from MedSeqFTLib.errors import MedSeqFTError

if TYPE_CHECKING:
    from MedSeqFTLib.jobs.job import JobFolder
    from MedSeqFTLib.learning.promotion import Verdict
    from MedSeqFTLib.workspace.schema import ModelVersion, Reading, TaskScores
    from MedSeqFTLib.workspace.workspace import Workspace

_READINGS = {"per-task": "each task by its own model", "single-model": "all tasks by one model"}
#: One task in one reading: its scores before and after, None where nothing was measured.
Comparison = tuple["TaskScores | None", "TaskScores | None"]


def wait_or_leave(workspace: Workspace, folder: JobFolder, wait: bool, as_json: bool, offset: int = 0) -> None:
    """After a start: report the job's end, or tell at once that it runs in the background. See `report_end`."""
    if wait:
        report_end(workspace, folder, as_json, offset)
    elif as_json:
        print_json(job_document(folder))
    else:
        say_started(folder)


def report_end(workspace: Workspace, folder: JobFolder, as_json: bool, offset: int = 0) -> None:
    """Wait for a job's end, showing events from a byte offset on, and report it.

    Raises JobError if it failed, was cancelled or was interrupted.
    """
    if as_json:
        _report_as_json(workspace, folder)
        return
    wait_for(folder, offset)
    version = made_version(workspace, folder)
    if version is None:
        say(f"Job {folder.id} is finished.")
    else:
        say_outcome(workspace, version)


def _report_as_json(workspace: Workspace, folder: JobFolder) -> None:
    """The document is printed whatever the end."""
    try:
        wait_for(folder, quiet=True)
    except MedSeqFTError:
        print_json(end_document(workspace, folder))
        raise
    print_json(end_document(workspace, folder))


def end_document(workspace: Workspace, folder: JobFolder) -> dict[str, Any]:
    """The job, and the comparison of Dice before and after, for --json."""
    version = made_version(workspace, folder)
    found = {**job_document(folder), "dice": [], "is_current": False, "verdict": None}
    if version is None:
        return found
    judged = _verdict(workspace, version)
    found["dice"] = [_dice_document(judged, pair) for pair in comparisons(version)]
    found["is_current"] = _is_current(workspace, version)
    found["verdict"] = judged.sentence if version.task is not None else None
    return found


def _dice_document(judged: Verdict, pair: Comparison) -> dict[str, Any]:
    return {
        "task": _task(pair),
        "reading": _reading(pair),
        "before": _mean(pair[0]),
        "after": _mean(pair[1]),
        "judgement": _judgement(judged, pair) or None,
    }


def made_version(workspace: Workspace, folder: JobFolder) -> ModelVersion | None:
    """The version that a finished job made."""
    name = folder.progress().version
    return workspace.version(name) if name is not None else None


def say_outcome(workspace: Workspace, version: ModelVersion) -> None:
    """Print Dice before and after of every task, and whether the version is in use."""
    judged = _verdict(workspace, version)
    rows = [(*_row(pair), _judgement(judged, pair)) for pair in comparisons(version)]
    heads = ("Task", "Read as", "Before", "After", "Change", "Verdict")
    print_table(heads, rows, "No held-out cases: nothing was measured.")
    if version.note:
        say(version.note)
    if version.task is None:
        say(f"{version.id} is a foundation model: the next adaptation can start from it.")
    elif _is_current(workspace, version):
        say(f"Gate: {judged}")
        say(f"{version.id} is current for {version.task}. Undo: medseqft models rollback {version.task}")
    else:
        say(f"{version.id} is not in use{_why_not(workspace, version, judged)}")


def comparisons(version: ModelVersion) -> list[Comparison]:
    """Before and after for every task and reading, the version's own task first.

    A task that is still segmented by an earlier version has the same scores before and after.
    """
    keys = sorted({(score.task != version.task, score.task, score.reading) for score in version.scores})
    return [_comparison(version, task, reading) for _, task, reading in keys]


def _comparison(version: ModelVersion, task: str, reading: str) -> Comparison:
    found = [score for score in version.scores if (score.task, score.reading) == (task, reading)]
    before = next((score for score in found if score.version != version.id), None)
    after = next((score for score in found if score.version == version.id), before)
    return before, after


def _row(pair: Comparison) -> tuple[object, ...]:
    before, after = (_mean(score) for score in pair)
    change = "" if before is None or after is None else f"{after - before:+.3f}"
    return _task(pair), _READINGS[_reading(pair)], _dice(before), _dice(after), change


def _mean(score: TaskScores | None) -> float | None:
    return score.mean_dice if score is not None else None


def _dice(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _task(pair: Comparison) -> str:
    return next(score.task for score in pair if score is not None)


def _reading(pair: Comparison) -> Reading:
    return next(score.reading for score in pair if score is not None)


def _verdict(workspace: Workspace, version: ModelVersion) -> Verdict:
    from MedSeqFTLib.learning.promotion import verdict_of

    return verdict_of(workspace, version)


def _judgement(judged: Verdict, pair: Comparison) -> str:
    """Of a task in a reading that decides, else nothing."""
    found = judged.of(_task(pair), _reading(pair))
    return found.judgement if found else ""


def _why_not(workspace: Workspace, version: ModelVersion, judged: Verdict) -> str:
    """What speaks against a version, or that a person decided, and what can be done."""
    from MedSeqFTLib.learning.promotion import what_next

    next_step = what_next(version.id, workspace.policy, judged).replace("models promote", "medseqft models promote")
    return f". {next_step}" if judged.good else f": {judged} {next_step}"


def _is_current(workspace: Workspace, version: ModelVersion) -> bool:
    return version.task is not None and workspace.pointers().tasks.get(version.task) == version.id
