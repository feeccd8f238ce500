"""The versions of the models in a workspace, as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from MedSeqFTLib.scene.logic import SceneLogic
    from MedSeqFTLib.workspace.schema import ModelVersion


@dataclass(frozen=True)
class Row:
    """A version. `dice`: task -> mean held-out Dice, as measured when the version was made; `status`: for people."""

    version: str
    parent: str
    task: str | None
    created: str
    training: int
    held_out: int
    dice: dict[str, float]
    status: str
    is_current: bool


def rows(logic: SceneLogic, task: str) -> list[Row]:
    """All versions, oldest first, with what they are to a task."""
    pointers = logic.workspace.pointers()
    promoted = {move.after for move in pointers.history if move.kind == "promote"}
    serving = set(pointers.tasks.values())
    return [
        Row(
            version=version.id,
            parent=version.parent or "",
            task=version.task,
            created=f"{version.created:%Y-%m-%d %H:%M}",
            training=len(version.train_cases),
            held_out=len(version.validation_cases),
            dice=_dice(version),
            status=_status(version, version.id in serving, version.id in promoted),
            is_current=pointers.tasks.get(task) == version.id,
        )
        for version in logic.workspace.versions()
    ]


def measured_tasks(found: list[Row]) -> list[str]:
    """The tasks that any version was measured on, in the order in which they came."""
    return list(dict.fromkeys(task for row in found for task in row.dice))


def current_text(logic: SceneLogic, task: str) -> str:
    """The version that segments a task now, and how well it does on cases that it has not seen."""
    version = logic.current(task)
    if version is None:
        return _("No model yet: accept cases in Correct, then adapt.")
    scores = version.measured(task, version.id)
    if scores is None or scores.mean_dice is None:
        return _("{version} segments this task; no held-out case has shown how well.").format(version=version.id)
    return _("{version} segments this task: held-out Dice {dice:.3f} (cases: {cases}).").format(
        version=version.id, dice=scores.mean_dice, cases=len(scores.cases)
    )


def _dice(version: ModelVersion) -> dict[str, float]:
    """Of the version itself where it was measured, else of the one that serves the task beside it."""
    own = {s.task: s.mean_dice for s in version.scores if s.reading == "per-task"}
    own |= {s.task: s.mean_dice for s in version.scores if (s.reading, s.version) == ("per-task", version.id)}
    return {task: dice for task, dice in own.items() if dice is not None}


def _status(version: ModelVersion, serves: bool, was_promoted: bool) -> str:
    if serves:
        return _("current")
    if version.task is None:
        return _("foundation")
    return _("older") if was_promoted else _("candidate")


def why_not_promoted(logic: SceneLogic, task: str, row: Row | None, reason: str) -> str:
    """What prevents a promotion, and what to do; "" if nothing does."""
    if row is None:
        return _("Choose a version in the table first.")
    if row.task is None:
        return _("{version} is a foundation model: it segments no task.").format(version=row.version)
    if row.task != task:
        return _("{version} segments {task}: choose that task above.").format(version=row.version, task=row.task)
    if row.is_current:
        return _("{version} is current already.").format(version=row.version)
    promotion = logic.policy.promotion
    if promotion == "never":
        return _("This workspace promotes nothing: change its policy first.")
    if reason:
        return ""
    verdict = logic.verdict(row.version)
    if not verdict.good:
        return _(
            "Held-out cases do not show that {version} is better: {verdict} To promote it all the same, write a reason."
        ).format(version=row.version, verdict=verdict)
    return _("In this workspace a person promotes, with a reason: write one.") if promotion == "person" else ""
