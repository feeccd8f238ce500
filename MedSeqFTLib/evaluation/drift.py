"""Do people correct less and less, and is a model's confidence worth anything?

Only cases count whose proposal came from a version of the workspace and was compared with what was accepted. All tests
are rough with few cases, and say so by not deciding:

- The trend is the change of Dice between proposal and accepted segmentation from the oldest to the newest version along
  a straight line, with a percentile bootstrap over cases. It is a trend in time: that later cases were easier, or that
  somebody corrects less carefully, looks the same.
- Confidence against correction: Spearman's rank correlation of confidence and Dice, with a permutation test.
- A fall of confidence: Mann-Whitney, one-sided, the newest volumes against earlier ones. It is asked again with every
  volume, hence the strict level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Literal

import numpy as np

from MedSeqFTLib.evaluation.bootstrap import SHARE, Interval, interval
from MedSeqFTLib.evaluation.trends import line_change, rank_correlation
from MedSeqFTLib.workspace.schema import Case, Correction, Segmentation
from MedSeqFTLib.workspace.segmentations import segmentations
from MedSeqFTLib.workspace.workspace import Workspace

Trend = Literal["shrinking", "not shrinking", "cannot be told yet"]
FEWEST = 8  # cases below which there is no trend
EACH = 3  # cases that at least two versions must have
NOBODY_SEES = 0.01  # Dice
RECENT = 5  # volumes whose confidence is compared with those before
SURE = 0.01  # level at which a fall of confidence is told
RELATED = 0.05  # level at which confidence counts as telling something


@dataclass(frozen=True)
class Corrected:
    """An accepted case, and what was changed in the proposal of `version`."""

    case: str
    role: str
    version: str
    accepted: datetime
    dice: float
    correction: Correction | None  # None: an older program stored it
    confidence: float | None
    seconds: float | None

    @property
    def surface(self) -> float | None:
        """Mean distance of the surfaces over the labels, mm."""
        return _mean(list(self.correction.surface.values()) if self.correction else [])


@dataclass(frozen=True)
class OfVersion:
    """What was corrected in the proposals of one version. None: not known of any of its cases."""

    version: str
    cases: int
    dice: Interval  # mean; its ends are the mean itself where there is one case
    changed: float | None  # share of the voxels
    surface: float | None  # mm
    confidence: float | None
    seconds: float | None  # median


@dataclass(frozen=True)
class Drift:
    """Of one task. `apart`: cases that do not count, and why; `change`: from the oldest to the newest version."""

    task: str
    cases: tuple[Corrected, ...]  # the oldest first
    apart: tuple[tuple[str, str], ...]
    versions: tuple[OfVersion, ...]
    trend: Trend
    change: Interval | None
    sentence: str
    confidence: str  # a sentence
    warning: str  # "" if confidence has not fallen


def drift(workspace: Workspace, task: str) -> Drift:
    """What corrections of a task tell. Raises InputError for an unknown task, WorkspaceError if a record is damaged."""
    records = segmentations(workspace, task)
    counted: list[Corrected] = []
    apart: list[tuple[str, str]] = []
    for case in sorted(workspace.cases(task), key=lambda case: (case.accepted, case.id)):
        found = _corrected(case, records)
        if isinstance(found, str):
            apart.append((case.id, found))
        else:
            counted.append(found)
    order = sorted({case.version for case in counted}, key=lambda version: int(version[1:]))
    versions = tuple(_of_version(version, [c for c in counted if c.version == version]) for version in order)
    change = _change(counted, order)
    trend = _trend(change)
    return Drift(
        task=task,
        cases=tuple(counted),
        apart=tuple(apart),
        versions=versions,
        trend=trend,
        change=change,
        sentence=_sentence(trend, change, len(counted), order),
        confidence=_confidence_text(counted),
        warning=_fall(records),
    )


def _corrected(case: Case, records: Sequence[Segmentation]) -> Corrected | str:
    """A case as it counts, or why it does not."""
    if case.proposed_by is None:
        return "accepted without a proposal of a version"
    if case.proposal_dice is None:
        return f"the proposal of {case.proposed_by} was not at hand to be compared"
    own = [r for r in records if (r.version, r.pixel_sha256) == (case.proposed_by, case.pixel_sha256)]
    confidence = case.correction.confidence if case.correction else None
    if confidence is None and own:
        confidence = own[0].confidence
    seconds = [case.seconds_spent, *(earlier.seconds_spent for earlier in case.revisions)]
    spent = [value for value in seconds if value is not None]
    return Corrected(
        case=case.id,
        role=case.role.value,
        version=case.proposed_by,
        accepted=case.accepted,
        dice=case.proposal_dice,
        correction=case.correction,
        confidence=confidence,
        seconds=sum(spent) if spent else None,
    )


def _of_version(version: str, cases: Sequence[Corrected]) -> OfVersion:
    dice = interval([np.array([[[case.dice] for case in cases]])])
    assert dice is not None  # there is a case, and its Dice is known
    spent = [case.seconds for case in cases if case.seconds is not None]
    return OfVersion(
        version=version,
        cases=len(cases),
        dice=dice,
        changed=_mean([case.correction.changed if case.correction else None for case in cases]),
        surface=_mean([case.surface for case in cases]),
        confidence=_mean([case.confidence for case in cases]),
        seconds=median(spent) if spent else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _change(cases: Sequence[Corrected], order: Sequence[str]) -> Interval | None:
    """From the oldest to the newest version; None if there are too few cases."""
    places = np.array([float(order.index(case.version)) for case in cases])
    counts = np.unique(places, return_counts=True)[1]
    if len(cases) < FEWEST or (counts >= EACH).sum() < 2:
        return None
    return line_change(places, np.array([case.dice for case in cases]))


def _trend(change: Interval | None) -> Trend:
    """Shrinking: surely above 0. Not shrinking: surely less than anybody would see."""
    if change is None:
        return "cannot be told yet"
    if change.low > 0:
        return "shrinking"
    return "not shrinking" if change.high < NOBODY_SEES else "cannot be told yet"


def _sentence(trend: Trend, change: Interval | None, cases: int, order: Sequence[str]) -> str:
    counted = f"{cases} case" if cases == 1 else f"{cases} cases"
    if change is None:
        enough = f"{FEWEST} cases, and {EACH} of each of two versions, are needed"
        return f"Whether corrections are shrinking cannot be told yet ({counted}; {enough})."
    spread = (
        f"{change.mean:+.3f} from {order[0]} to {order[-1]}, {SHARE} % interval {change.low:+.3f} to {change.high:+.3f}"
    )
    head = (
        "Whether corrections are shrinking cannot be told yet"
        if trend == "cannot be told yet"
        else f"Corrections are {trend}"
    )
    return f"{head}: Dice of proposal and accepted segmentation {spread} ({counted})."


def _confidence_text(cases: Sequence[Corrected]) -> str:
    pairs = [(case.confidence, case.dice) for case in cases if case.confidence is not None]
    if len(pairs) < FEWEST:
        return f"Whether the confidence is worth anything cannot be told yet (cases with a known one: {len(pairs)})."
    found = rank_correlation(*np.array(pairs).T)
    if found is None:
        return f"The confidence, or the correction, is the same in all {len(pairs)} cases: nothing can be told of it."
    correlation, chance = found
    figures = f"rank correlation with Dice {correlation:+.2f}, {_chance(chance)}, {len(pairs)} cases"
    if chance >= RELATED:
        return f"The confidence has not been shown to tell how much is corrected ({figures})."
    return f"The surer the model, the {'less' if correlation > 0 else 'more'} is corrected ({figures})."


def _fall(records: Sequence[Segmentation]) -> str:
    """A warning if the newest volumes were segmented with less confidence than earlier ones."""
    from scipy.stats import mannwhitneyu

    newest = {record.pixel_sha256: record for record in records if record.reading == "per-task"}
    known = sorted((r for r in newest.values() if r.confidence is not None), key=lambda record: record.created)
    recent, before = known[-RECENT:], known[:-RECENT]
    version = recent[-1].version if recent else ""
    own = [record for record in before if record.version == version]
    before, of = (own, f" by {version}") if len(own) >= RECENT else (before, "")
    if len(recent) < RECENT or len(before) < RECENT:
        return ""
    late, early = ([float(r.confidence or 0) for r in part] for part in (recent, before))
    chance = float(mannwhitneyu(late, early, alternative="less").pvalue)
    if chance >= SURE:
        return ""
    return (
        f"The confidence has fallen: {median(late):.3f} in the last {RECENT} volumes, {median(early):.3f} in the "
        f"{len(before)} segmented{of} before (medians; Mann-Whitney {_chance(chance)}). Look at what has changed: "
        "another scanner, protocol or kind of patient?"
    )


def _chance(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
