"""Is a candidate worse than the version it would take over from? Paired, case by case, with a bootstrap interval.

A non-inferiority test on held-out cases: the interval of the mean change of Dice is compared with 0 and with a margin.
Margins (`MedSeqFTLib.workspace.policy`), interval and the number of cases that is asked for are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from MedSeqFTLib.evaluation.bootstrap import SHARE, Interval, Values, interval
from MedSeqFTLib.workspace.policy import Policy
from MedSeqFTLib.workspace.schema import CaseScore, Reading, TaskScores

Judgement = Literal["better", "no worse within the margin", "worse", "not enough evidence"]
Pairs = Sequence[tuple[CaseScore, CaseScore]]
MARGIN = Policy().margin
FEWEST = 2  # cases below which there is no interval
ENOUGH = 5  # cases below which an interval is called rough


@dataclass(frozen=True)
class Comparison:
    """Dice of one task, before and after, on the cases and labels that both versions were measured on."""

    task: str
    reading: Reading
    before: float
    after: float
    change: Interval  # of after - before
    held_out: int  # cases
    crossed: int  # cases that were cross-validated: they judge the recipe
    margin: float
    judgement: Judgement

    @property
    def cases(self) -> int:
        """All that the interval rests on."""
        return self.held_out + self.crossed

    @property
    def loses(self) -> bool:
        """Is it shown that more than the margin is lost? The whole interval lies below."""
        return self.cases >= FEWEST and self.change.high < -self.margin

    @property
    def spread(self) -> str:
        """How sure it is."""
        if self.cases < FEWEST:
            return "on one held-out case only; accept more for validation"
        rough = "" if self.cases >= ENOUGH else f"; rough with fewer than {ENOUGH} cases"
        change = f"{SHARE} % interval of the change {self.change.low:+.3f} to {self.change.high:+.3f}"
        return f"{change}, {self._counted}{rough}"

    @property
    def _counted(self) -> str:
        if not self.crossed:
            return f"{self.cases} cases"
        return f"{self.held_out} held out, {self.crossed} cross-validated, which judge the recipe, not this very model"

    def __str__(self) -> str:
        """One sentence, with how sure it is."""
        what = "Dice of unseen cases" if self.crossed else "held-out Dice"
        by = "" if self.reading == "per-task" else " by the one model"
        text = f"{self.judgement}: {what} of {self.task}{by} {self.before:.3f}, now {self.after:.3f}"
        return f"{text}, {self.spread}" if self.cases < FEWEST else f"{text} ({self.spread})"


def compare(
    before: TaskScores | None,
    after: TaskScores | None,
    margin: float = MARGIN,
    crossed: tuple[TaskScores | None, TaskScores | None] = (None, None),
) -> Comparison | None:
    """Compare two measurements of one task.

    Args:
        margin: Dice that may be lost without being called worse.
        crossed: of cross-validation, before and after, on other cases.

    Returns:
        None if there is nothing that both were measured on.
    """
    held_out, more = _pairs(before, after), _pairs(*crossed)
    known = after or crossed[1]
    old, new = _paired([*held_out, *more])
    change = interval([new - old]) if known and old.size else None
    if known is None or change is None:
        return None
    judgement = judged(change, len(held_out) + len(more), margin)
    if more and change.low >= -margin and not _supported(held_out, margin):
        judgement = "not enough evidence"
    return Comparison(
        known.task, known.reading, _mean(old), _mean(new), change, len(held_out), len(more), margin, judgement
    )


def judged(change: Interval, cases: int, margin: float) -> Judgement:
    """What an interval of the change says."""
    if cases < FEWEST:
        return "not enough evidence"
    if change.low > 0:
        return "better"
    if change.low >= -margin:
        return "no worse within the margin"
    return "worse" if change.high < 0 else "not enough evidence"


def _supported(held_out: Pairs, margin: float) -> bool:
    """Do held-out cases, taken by themselves, bear out what cross-validation says in favour of a candidate?

    Cross-validation measures against labels of training cases: where these are wrong, it praises what learned them.
    """
    if not held_out:
        return False
    old, new = _paired(held_out)
    return _mean(new) - _mean(old) >= -margin


def _pairs(before: TaskScores | None, after: TaskScores | None) -> Pairs:
    if before is None or after is None:
        return ()
    old = {score.case: score for score in before.cases}
    pairs = [(old[score.case], score) for score in after.cases if score.case in old]
    return [pair for pair in pairs if _common(*pair)]


def _paired(pairs: Pairs) -> tuple[Values, Values]:
    """Dice before and after [1, cases, labels], NaN where one of them is unknown."""
    labels = sorted({label for pair in pairs for case in pair for label in case.dice})
    old, new = (np.array([[[_dice(pair[which], label) for label in labels] for pair in pairs]]) for which in (0, 1))
    unknown = np.isnan(old) | np.isnan(new)
    old[unknown] = new[unknown] = np.nan
    return old, new


def _common(old: CaseScore, new: CaseScore) -> bool:
    return any(old.dice.get(label) is not None and new.dice[label] is not None for label in new.dice)


def _dice(score: CaseScore, label: str) -> float:
    value = score.dice.get(label)
    return np.nan if value is None else value


def _mean(values: Values) -> float:
    """Mean over labels of the mean over cases, as the interval's."""
    found = interval([values], draws=0)
    return found.mean if found else np.nan
