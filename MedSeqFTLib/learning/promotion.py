"""The gate: whether a new version becomes current by itself, and what a person needs to promote one.

A promotion changes which version serves the version's own task, and where the next adaptation begins; the earlier tasks
keep the versions that serve them. So a candidate is compared on its own task as users get it, and on every earlier task
by the single model, which is what the chain hands on.
"""

from __future__ import annotations

from dataclasses import dataclass

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.gate import Comparison, compare
from MedSeqFTLib.learning.progress import Teller
from MedSeqFTLib.workspace.policy import BY_A_PERSON, FROZEN, Policy
from MedSeqFTLib.workspace.schema import ModelVersion, Pointers, Reading
from MedSeqFTLib.workspace.workspace import Workspace

_LOCK_TIMEOUT = 60.0  # seconds: a long job ends here, so rather wait than fail


@dataclass(frozen=True)
class Verdict:
    """What measured cases say of a candidate. `good`: it may become current by itself, as far as they are concerned.

    `own` is None of a first version, and where nothing was measured on both sides.
    """

    good: bool
    sentence: str
    own: Comparison | None = None
    earlier: tuple[Comparison, ...] = ()

    @property
    def forgotten(self) -> tuple[str, ...]:
        """The earlier tasks on which the one model is shown to lose more than the margin."""
        return tuple(comparison.task for comparison in self.earlier if comparison.loses)

    def of(self, task: str, reading: Reading) -> Comparison | None:
        """The comparison of one task in one reading, if it is one that decides."""
        found = [*self.earlier, *([self.own] if self.own else [])]
        return next((one for one in found if (one.task, one.reading) == (task, reading)), None)

    def __str__(self) -> str:
        return self.sentence


def promote_if_better(workspace: Workspace, version: ModelVersion, teller: Teller) -> bool:
    """Promote or leave as a candidate, and say why. Safe to call again for a version that was decided on before."""
    with workspace.lock(timeout=_LOCK_TIMEOUT):
        pointers, policy = workspace.pointers(), workspace.policy
        if version.task is None or any(move.after == version.id for move in pointers.history):
            return True
        found = judge(version, pointers.tasks.get(version.task), policy)
        promote = found.good and policy.promotion == "better"
        if promote:
            workspace.promote(version.id, who="MedSeqFT", reason=found.sentence)
    if not promote:
        teller.warning(f"{version.id} kept as a candidate: {found} {what_next(version.id, policy, found)}")
        return False
    teller.message(f"{version.id} promoted: {found}")
    if found.forgotten:
        teller.warning(f"{version.id} begins to forget {', '.join(found.forgotten)}; its own version still serves it.")
    return True


def promote_by_hand(workspace: Workspace, version_id: str, who: str, reason: str) -> Pointers:
    """A person makes a version current; the reason is kept, and beside it what the gate said.

    Raises:
        InputError: the version is unknown, serves no task, or is current already; the policy is "never"; or a reason
            is missing where the verdict or the policy asks for one.
        WorkspaceError: one of its files is damaged.
    """
    version, policy = workspace.version(version_id), workspace.policy
    current = workspace.pointers().tasks.get(version.task or "")
    if version.task is None or current == version.id:
        return workspace.promote(version_id, who, reason)  # which says what is wrong
    found = judge(version, current, policy)
    if not reason.strip() and policy.promotion != "never":
        if not found.good:
            raise InputError(f"{version.id} is promoted only with a reason, which is kept in the history: {found}")
        if policy.promotion == "person":
            raise InputError(f"{version.id} is promoted only with a reason: {BY_A_PERSON}")
    return workspace.promote(version_id, who, reason, found.sentence)


def what_next(version: str, policy: Policy, found: Verdict) -> str:
    """What a person can do about a candidate, in a sentence or two."""
    if policy.promotion == "never":
        return FROZEN
    person = policy.promotion == "person"
    why, reason = f"{BY_A_PERSON} " if person else "", " --reason ..." if person or not found.good else ""
    return f"{why}Promote it with: models promote {version}{reason}"


def verdict_of(workspace: Workspace, version: ModelVersion) -> Verdict:
    """Against the version that it took over from, or would take over from now."""
    pointers = workspace.pointers()
    moves = [move for move in pointers.history if move.kind == "promote" and move.after == version.id]
    current = moves[-1].before if moves else pointers.tasks.get(version.task or "")
    return judge(version, current, workspace.policy)


def judge(version: ModelVersion, current: str | None, policy: Policy | None = None) -> Verdict:
    """What the measurements in a version say against the current one, and against its parent on earlier tasks."""
    policy = policy or Policy()
    earlier = _earlier(version, policy.earlier_margin)
    if current is None:
        return Verdict(True, _first(version) + _told(earlier), None, earlier)
    own = _own(version, current, policy.margin)
    good = own is not None and own.judgement == "better" and not any(task.loses for task in earlier)
    sentence = f"no held-out case of {version.task} shows whether it is better than {current}."
    if own is not None:
        sentence = f"against {current} {own}."
    return Verdict(good, sentence + _told(earlier), own, earlier)


def _own(version: ModelVersion, current: str, margin: float) -> Comparison | None:
    crossed = version.cross_validation
    fits = crossed is not None and crossed.current is not None and crossed.current.version == current
    before, after = (version.measured(version.task, which) for which in (current, version.id))
    return compare(before, after, margin, (crossed.current, crossed.recipe) if crossed and fits else (None, None))


def _earlier(version: ModelVersion, margin: float) -> tuple[Comparison, ...]:
    """The single model after against before, on every earlier task."""
    found = []
    for task in version.plans:
        if task != version.task and version.parent:
            before, after = (version.measured(task, which, "single-model") for which in (version.parent, version.id))
            found.append(compare(before, after, margin))
    return tuple(comparison for comparison in found if comparison is not None)


def _first(version: ModelVersion) -> str:
    scores, crossed = version.measured(version.task, version.id), version.cross_validation
    dice = scores.mean_dice if scores else None
    text = "no held-out case to measure it on" if dice is None else f"held-out Dice {dice:.3f}"
    if crossed is not None and crossed.recipe.mean_dice is not None:
        cases = len(crossed.recipe.cases)
        text += (
            f", cross-validated {crossed.recipe.mean_dice:.3f} ({cases} cases, of the recipe, not of this very model)"
        )
    return f"first version of {version.task}, {text}."


def _told(earlier: tuple[Comparison, ...]) -> str:
    if not earlier:
        return ""
    tasks = "; ".join(
        f"{one.task} {one.before:.3f}, now {one.after:.3f}, {one.judgement} ({one.spread})" for one in earlier
    )
    lost = [one.task for one in earlier if one.loses]
    shown = f" More than {earlier[0].margin:g} is lost on {', '.join(lost)}." if lost else ""
    return f" Earlier tasks by the one model: {tasks}.{shown}"
