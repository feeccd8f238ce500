"""Whether a new version becomes current by itself: only if its held-out Dice is no worse than the current version's."""

from __future__ import annotations

from MedSeqFTLib.learning.progress import Teller
from MedSeqFTLib.workspace.schema import ModelVersion
from MedSeqFTLib.workspace.workspace import Workspace


def promote_if_no_worse(workspace: Workspace, version: ModelVersion, teller: Teller) -> bool:
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


def verdict(version: ModelVersion, current: str | None) -> tuple[bool, str]:
    """Promote or not, and the reason in a sentence.

    Earlier tasks keep the versions that serve them, so this decision can take nothing from them.
    """
    after = _mean(version, version.id)
    if current is None:
        held_out = "no held-out case to measure it on" if after is None else f"held-out Dice {after:.3f}"
        return True, f"first version of {version.task}, {held_out}."
    before = _mean(version, current)
    if after is None or before is None:
        return False, f"no held-out case of {version.task} shows whether it is better than {current}."
    judgement = "no worse than" if after >= before else "worse than"
    return after >= before, f"{judgement} {current}: held-out Dice {before:.3f}, now {after:.3f}."


def _mean(version: ModelVersion, measured: str) -> float | None:
    """Mean Dice of a version on the task's held-out cases, as recorded in `version`."""
    scores = version.measured(version.task, measured)
    return scores.mean_dice if scores else None
