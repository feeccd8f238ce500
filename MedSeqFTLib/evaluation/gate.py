"""Is a candidate worse than the version it would take over from? Paired, case by case, with a bootstrap interval.

A non-inferiority test on held-out cases: the interval of the mean change of Dice is compared with 0 and with a margin.
Margin, interval and the number of cases that is asked for are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from MedSeqFTLib.evaluation.bootstrap import SHARE, Interval, Values, interval
from MedSeqFTLib.workspace.schema import CaseScore, TaskScores

Judgement = Literal["better", "no worse within the margin", "worse", "not enough evidence"]
MARGIN = 0.01  # Dice; a change that nobody would see
FEWEST = 2  # held-out cases below which there is no interval
ENOUGH = 5  # held-out cases below which an interval is called rough


@dataclass(frozen=True)
class Comparison:
    """Held-out Dice of one task, before and after, on the cases and labels that both versions were measured on."""

    task: str
    before: float
    after: float
    change: Interval  # of after - before
    cases: int
    judgement: Judgement

    def __str__(self) -> str:
        """One sentence, with how sure it is."""
        text = f"{self.judgement}: held-out Dice of {self.task} {self.before:.3f}, now {self.after:.3f}"
        if self.cases < FEWEST:
            return f"{text}, on one held-out case only; accept more for validation"
        spread = f"{SHARE} % interval of the change {self.change.low:+.3f} to {self.change.high:+.3f}"
        rough = "" if self.cases >= ENOUGH else f"; rough with fewer than {ENOUGH} cases"
        return f"{text} ({spread}, {self.cases} cases{rough})"


def compare(before: TaskScores | None, after: TaskScores | None, margin: float = MARGIN) -> Comparison | None:
    """Compare two measurements of one task.

    Args:
        margin: Dice that may be lost without being called worse.

    Returns:
        None if there is nothing that both were measured on.
    """
    pairs = _pairs(before, after)
    if before is None or not pairs:
        return None
    labels = sorted({label for pair in pairs for case in pair for label in case.dice})
    old, new = (np.array([[[_dice(pair[which], label) for label in labels] for pair in pairs]]) for which in (0, 1))
    unknown = np.isnan(old) | np.isnan(new)
    old[unknown] = new[unknown] = np.nan
    change = interval([new - old])
    if change is None:
        return None
    return Comparison(before.task, _mean(old), _mean(new), change, len(pairs), judged(change, len(pairs), margin))


def judged(change: Interval, cases: int, margin: float) -> Judgement:
    """What an interval of the change says."""
    if cases < FEWEST:
        return "not enough evidence"
    if change.low > 0:
        return "better"
    if change.low >= -margin:
        return "no worse within the margin"
    return "worse" if change.high < 0 else "not enough evidence"


def _pairs(before: TaskScores | None, after: TaskScores | None) -> Sequence[tuple[CaseScore, CaseScore]]:
    if before is None or after is None:
        return ()
    old = {score.case: score for score in before.cases}
    pairs = [(old[score.case], score) for score in after.cases if score.case in old]
    return [pair for pair in pairs if _common(*pair)]


def _common(old: CaseScore, new: CaseScore) -> bool:
    return any(old.dice.get(label) is not None and new.dice[label] is not None for label in new.dice)


def _dice(score: CaseScore, label: str) -> float:
    value = score.dice.get(label)
    return np.nan if value is None else value


def _mean(values: Values) -> float:
    """Mean over labels of the mean over cases, as the interval's."""
    found = interval([values], draws=0)
    return found.mean if found else np.nan
