"""Model versions and jobs as the sections of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from MedSeqFTLib.evaluation.averages import per_label_dice
from MedSeqFTLib.evaluation.report import DiceRow, Outcome, Picture, SelectionRow, StageSection, VersionRow
from MedSeqFTLib.jobs.job import job_folder
from MedSeqFTLib.learning.promotion import Verdict, verdict_of
from MedSeqFTLib.workspace.schema import ModelVersion, Selection, SelectionScore
from MedSeqFTLib.workspace.workspace import Workspace

LossPoints = list[tuple[int, Mapping[str, float]]]


def stage_section(
    workspace: Workspace, version: ModelVersion, text: str = "", pictures: Sequence[Picture] = ()
) -> StageSection:
    """One adaptation: Dice before and after, losses, buffer. Raises WorkspaceError if the job's record is damaged."""
    judged = verdict_of(workspace, version)
    outcome, verdict = _outcome(workspace, version, judged)
    return StageSection(
        task=version.task or "",
        version=version.id,
        text=text,
        outcome=outcome,
        verdict=verdict,
        pictures=pictures,
        dice=dice_rows(version),
        judgements=_judgements(judged),
        losses=losses_of(workspace, version),
        buffer=selection_rows(version),
        buffer_text=_selection_text(version),
    )


def _outcome(workspace: Workspace, version: ModelVersion, judged: Verdict) -> tuple[Outcome, str]:
    moves = [move for move in workspace.pointers().history if move.after == version.id and move.kind == "promote"]
    if not moves:
        return "kept back", str(judged)
    move = moves[-1]
    beside = f" Promoted by {move.who}; the gate said: {move.verdict}" if move.verdict else ""
    return "promoted", f"{move.reason}{beside}"


def _judgements(judged: Verdict) -> dict[tuple[str, str], str]:
    found = [*judged.earlier, *([judged.own] if judged.own else [])]
    return {(one.reading, one.task): f"{one.judgement} ({one.spread})" for one in found}


def dice_rows(version: ModelVersion) -> list[DiceRow]:
    """Mean Dice per task, reading and label; a task still served by an earlier version has no change."""
    keys = dict.fromkeys((scores.reading, scores.task) for scores in version.scores)
    return [row for reading, task in keys for row in _rows(version, reading, task)]


def _rows(version: ModelVersion, reading: str, task: str) -> list[DiceRow]:
    found = [scores for scores in version.scores if (scores.reading, scores.task) == (reading, task)]
    before = next((scores for scores in found if scores.version != version.id), None)
    after = next((scores for scores in found if scores.version == version.id), before)
    means = [per_label_dice(scores.cases) if scores else {} for scores in (before, after)]
    cases = max(len(scores.cases) for scores in found)
    labels = [label.name for label in version.plan(task).labels]
    return [DiceRow(found[0].reading, task, name, means[0].get(name), means[1].get(name), cases) for name in labels]


def losses_of(workspace: Workspace, version: ModelVersion) -> dict[str, LossPoints]:
    """Losses over the steps of each stage of the job that made a version; empty if the job's folder is gone."""
    losses: dict[str, LossPoints] = {}
    folder = job_folder(workspace, version.job) if version.job else None
    for event in folder.thinned_events()[0] if folder and folder.events_path.exists() else []:
        if event.kind == "progress" and event.losses and event.stage and event.step is not None:
            points = {name: value for name, value in event.losses.items() if value is not None}
            losses.setdefault(event.stage, []).append((event.step, points))
    return losses


def selection_rows(version: ModelVersion) -> list[SelectionRow]:
    """The scored cases of a version's selection, lowest loss first; empty if it was not made by scores."""
    scores = version.selection.scores if version.selection else ()
    return [
        SelectionRow(
            score.case, score.loss, _interval(score), score.passes, score.kept, score.reason, score.in_tie_zone
        )
        for score in scores
        if score.loss is not None
    ]


def _interval(score: SelectionScore) -> tuple[float, float]:
    """95 %. Older programs recorded the standard error alone; after a single pass nothing is known."""
    loss, reach = score.loss or 0.0, 1.96 * (score.standard_error or 0.0)
    return score.interval or (loss - reach, loss + reach)


def _selection_text(version: ModelVersion) -> str:
    chosen = version.selection
    if chosen is None:
        return ""
    if chosen.pretext is None:
        return f"Selection: {chosen.method}, {chosen.size} cases."
    values = chosen.pretext.model_dump(exclude={"kind", "crop"})
    how = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    head = "a substitute for its missing pretext head" if chosen.method == "mds-substitute" else "its pretext head"
    return (
        f"MDS keeps the {chosen.size} cases with the lowest mean loss of the foundation model with {head} over "
        f"{_passes_text(chosen)} ({chosen.pretext.kind}: {how}; seed {chosen.seed})."
    )


def _passes_text(chosen: Selection) -> str:
    if chosen.estimator is None or chosen.estimator.kind == "fixed":
        return f"{chosen.passes} passes"
    used, most = sum(score.passes for score in chosen.scores), chosen.passes * len(chosen.scores)
    return (
        f"at most {chosen.passes} passes; a case stopped as soon as it was {chosen.estimator.z:g} standard errors "
        f"clear of the border between kept and left, which took {used:,} of {most:,} passes"
    )


def lineage(workspace: Workspace) -> list[VersionRow]:
    """All versions, oldest first, and what they serve now."""
    serving = workspace.pointers().tasks
    return [
        VersionRow(
            version=version.id,
            parent=version.parent,
            task=version.task,
            created=f"{version.created:%Y-%m-%d %H:%M} UTC",
            mean_dice=_own_dice(version),
            serves=[task for task, current in serving.items() if current == version.id],
            note=version.note,
        )
        for version in workspace.versions()
    ]


def _own_dice(version: ModelVersion) -> float | None:
    scores = version.measured(version.task, version.id)
    return scores.mean_dice if scores else None
