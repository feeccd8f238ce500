"""Whether a new version becomes current by itself: only if its held-out cases show that it is better."""

from __future__ import annotations

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.gate import compare
from MedSeqFTLib.learning.progress import Teller
from MedSeqFTLib.workspace.schema import ModelVersion, Pointers
from MedSeqFTLib.workspace.workspace import Workspace


def promote_if_better(workspace: Workspace, version: ModelVersion, teller: Teller) -> bool:
    """Promote or leave as a candidate, and say why. Safe to call again for a version that was decided on before."""
    if version.task is None or any(move.after == version.id for move in workspace.pointers().history):
        return True
    current = workspace.current_version(version.task)
    promote, reason = verdict(version, current.id if current else None)
    if promote:
        workspace.promote(version.id, who="MedSeqFT", reason=reason)
        teller.message(f"{version.id} promoted: {reason}")
    else:
        teller.warning(f"{version.id} kept as a candidate: {reason} Promote it with: models promote {version.id}")
    return promote


def promote_by_hand(workspace: Workspace, version_id: str, who: str, reason: str) -> Pointers:
    """A person makes a version current; against the verdict only with a reason, which is kept.

    Raises:
        InputError: the version is unknown, serves no task, or is current already; or the reason is missing.
        WorkspaceError: one of its files is damaged.
    """
    version = workspace.version(version_id)
    current = workspace.pointers().tasks.get(version.task or "")
    if not reason.strip() and version.task is not None and current != version.id:
        good_enough, why = verdict(version, current)
        if not good_enough:
            raise InputError(f"{version.id} is promoted only with a reason, which is kept in the history: {why}")
    return workspace.promote(version_id, who, reason)


def verdict(version: ModelVersion, current: str | None) -> tuple[bool, str]:
    """Promote or not, and the reason in a sentence: see `MedSeqFTLib.evaluation.gate`.

    Anything but "better" is left for a person to decide. Earlier tasks keep the versions that serve them, so this
    decision can take nothing from them.
    """
    if current is None:
        after = _mean(version, version.id)
        held_out = "no held-out case to measure it on" if after is None else f"held-out Dice {after:.3f}"
        return True, f"first version of {version.task}, {held_out}."
    found = compare(version.measured(version.task, current), version.measured(version.task, version.id))
    if found is None:
        return False, f"no held-out case of {version.task} shows whether it is better than {current}."
    return found.judgement == "better", f"against {current} {found}."


def _mean(version: ModelVersion, measured: str) -> float | None:
    """Mean Dice of a version on the task's held-out cases, as recorded in `version`."""
    scores = version.measured(version.task, measured)
    return scores.mean_dice if scores else None
