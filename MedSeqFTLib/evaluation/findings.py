"""What a comparison shows, in sentences made from its numbers, and what the words on its page mean."""

from __future__ import annotations

from MedSeqFTLib.evaluation.bootstrap import Interval
from MedSeqFTLib.evaluation.continual import READINGS, Analysis
from MedSeqFTLib.evaluation.results import Comparison
from MedSeqFTLib.evaluation.tables import Column
from MedSeqFTLib.workspace.schema import Reading

_FEW_RUNS = 5
_POINTS = Column("", "points")
_SHARE = Column("", "share")
_WITH: dict[Reading, str] = {
    "per-task": "With its own model for each task",
    "single-model": "With one model for all tasks",
}


def headline(analysis: Analysis) -> list[str]:
    """The main result: one sentence a reading; one sentence where nothing can be said yet."""
    found = [sentence for reading in READINGS if (sentence := _sentence(analysis, reading))]
    return found or [f"No strategy can be compared with {analysis.comparison.baseline} yet."]


def _sentence(analysis: Analysis, reading: Reading) -> str:
    gains = {note.label: analysis.gain(note.label, reading) for note in analysis.comparison.strategies}
    ranked = sorted(((g.mean, label, g) for label, g in gains.items() if g), key=lambda entry: (-entry[0], entry[1]))
    if not ranked:
        return ""
    _, best, gain = ranked[0]
    words = f"{_WITH[reading]}, {_standing(best, gain, analysis.comparison.baseline)}"
    return words + (_runner_up(analysis, best, ranked[1][1], reading) if len(ranked) > 1 else "") + "."


def _standing(best: str, gain: Interval, baseline: str) -> str:
    points = f"{_POINTS.text(gain)} points against {baseline} (95\u00a0% interval {_POINTS.range(gain)})"
    tone = _POINTS.tone(gain)
    if tone == "better":
        return f"{best} has the highest mean Dice: {points}"
    if tone == "worse":
        return f"every strategy is worse than {baseline}; {best} comes closest: {points}"
    verdict = "has the highest mean Dice" if gain.mean > 0 else "comes closest to the baseline from below"
    return f"{best} {verdict}: {points}, which includes 0: a difference is not shown"


def _runner_up(analysis: Analysis, best: str, second: str, reading: Reading) -> str:
    lead = analysis.lead(best, second, reading)
    if lead is None:
        return ""
    clear = "" if _POINTS.tone(lead) == "better" else ", not a clear one"
    return f"; its lead over the next, {second}, is {_POINTS.full(lead)}{clear}"


def cautions(analysis: Analysis) -> list[str]:
    """What is missing, what the comparison itself warns of, and how few runs there are."""
    comparison = analysis.comparison
    found = []
    if comparison.unfinished:
        cells = "1 cell is" if comparison.unfinished == 1 else f"{comparison.unfinished} cells are"
        found.append(f"Unfinished: {cells} still missing. The figures use only runs that are complete.")
    found += comparison.cautions
    others = (note.label for note in comparison.strategies if note.label != comparison.baseline)
    runs = {count for label in others if (count := len(analysis.matrices.complete(label)))}
    if runs and max(runs) < _FEW_RUNS:
        found.append(_few_runs(max(runs)))
    if len(runs) > 1:
        found.append("Strategies have different numbers of runs. Gains compare the runs that both sides have.")
    return found


def _few_runs(runs: int) -> str:
    if runs == 1:
        return (
            "There is one run of each strategy: the intervals speak of other cases, not of other seeds or task orders."
        )
    return f"At most {runs} runs of a strategy are complete: the intervals are a rough guide, and rather too narrow."


def definitions(comparison: Comparison) -> list[tuple[str, str]]:
    """The words of the tables, each with its meaning."""
    baseline, tolerance = comparison.baseline, comparison.tolerance
    nsd = f"at a tolerance of {tolerance:g} mm" if tolerance else "at a tolerance (not measured here)"
    return [
        (
            "Own model per task",
            "Task i is segmented by the model of its own stage, which later stages never touch.",
        ),
        ("One model for all", "The model after the last stage segments every task; here forgetting shows."),
        ("Dice", "Overlap with the reference, 0 to 1. A task's score is the mean over labels of the mean over cases."),
        (
            "HD95",
            "95 % Hausdorff distance of the surfaces in mm; lower is better. Not defined where nothing was predicted.",
        ),
        ("NSD", f"Normalised surface Dice {nsd}, 0 to 1."),
        ("a[t][i], b[i]", f"Score of task i after stage t, and that of {baseline}. There are n tasks."),
        ("ACC", "Mean over all tasks of a[n][i]."),
        ("Gain", f"Mean over all tasks of a[n][i] \u2212 b[i]: what the strategy is worth against {baseline}."),
        (
            "FWT",
            "Forward transfer: mean over i > 1 of a[i][i] \u2212 b[i], what starting from the earlier stages is worth.",
        ),
        (
            "BWT",
            "Backward transfer: mean over i < n of a[n][i] \u2212 a[i][i]; below 0 is forgetting. "
            "With an own model for each task it is 0 by construction, so it is not shown.",
        ),
        (
            "Differences",
            "Taken case by case, on cases where both sides are defined. Dice and NSD in points (hundredths).",
        ),
        ("Empty references", empty_words(comparison)),
        (
            "95 % interval",
            "Paired percentile bootstrap: runs (order and seed) and, within each task, cases are drawn again with "
            "replacement, the same for both sides; tasks weigh the same and are not drawn again. Each interval stands "
            "by itself: the best of several strategies was picked after the fact, so its gain flatters it.",
        ),
    ]


def empty_words(comparison: Comparison) -> str:
    """How many structures have no Dice because their reference is empty."""
    every = {
        (m.task, s.case, label): value for m in comparison.measured for s in m.scores for label, value in s.dice.items()
    }
    empty = sum(value is None for value in every.values())
    rule = "A structure that is empty in the reference has no score and is left out, not counted as 0 or 1"
    return f"{rule}. This holds for {empty} of {len(every)} structures of the held-out cases."
