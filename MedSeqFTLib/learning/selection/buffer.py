"""The buffer of a task: MDS, and what it is compared with.

MDS, maximum data similarity: every case goes through M_0 and its pretext head many times, each time with another crop
and mask; the cases with the lowest mean loss are most like what M_0 was trained on, and form the buffer (second-hand
account of arXiv 2509.06096). All numbers here are our choices: see docs/method.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from MedSeqFTLib.imaging.cache import PreparedCase
from MedSeqFTLib.learning.forecast import CLUSTER_STAGE, CROPS, MDS_STAGE
from MedSeqFTLib.learning.progress import Reporter
from MedSeqFTLib.learning.selection.features import FeatureReader, nearest_to_centres
from MedSeqFTLib.learning.selection.loss_file import LossFile
from MedSeqFTLib.learning.selection.racing import START, Race, Rules, Verdict
from MedSeqFTLib.learning.selection.scoring import PretextScorer, pretext_losses
from MedSeqFTLib.learning.selection.size import buffer_size
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.workspace.schema import Estimator, Selection, SelectionConditions, SelectionReason, SelectionScore

LOSSES = "selection-losses.jsonl"  # in the job's folder
Cases = Mapping[str, PreparedCase]


def select_buffer(
    cases: Cases,
    reader: PretextScorer | FeatureReader | None,
    settings: AdaptSettings,
    seed: int,
    reporter: Reporter,
    identity: str,
    conditions: SelectionConditions | None = None,
) -> Selection:
    """Choose the buffer of a task.

    Args:
        reader: scores cases for MDS, or reads their features for k-means; None for the other selections.
        identity: everything that the losses depend on; those of an interrupted run are taken up if it is the same.
        conditions: for the record.

    Raises:
        InputError: `buffer_size` is more than the cases.
        JobError: a loss is infinite or not a number.
        StorageError: the disk is full; what is finished is kept.
    """
    size = buffer_size(len(cases), settings)
    selection = partial(
        Selection,
        method=settings.selection,
        size=size,
        patch=reader.patch if reader else None,
        seed=seed,
        conditions=conditions,
    )
    if isinstance(reader, PretextScorer):
        rules = rules_of(settings, size, reader.at_once)
        verdicts = _Scoring(cases, reader, rules, reporter, LossFile(reporter.folder / LOSSES, identity)).run()
        scores = tuple(_scored(verdict) for verdict in sorted(verdicts.values(), key=lambda verdict: verdict.mean))
        estimator = Estimator(kind=settings.selection_estimator, z=rules.z, start=rules.start, growth=rules.growth)
        return selection(passes=rules.cap, pretext=reader.description, scores=scores, estimator=estimator)
    if isinstance(reader, FeatureReader):
        return selection(passes=CROPS, pretext=None, scores=tuple(_clustered(cases, reader, size, reporter)))
    return selection(passes=0, pretext=None, scores=tuple(_unscored(list(cases), settings, size, seed)))


def rules_of(settings: AdaptSettings, keep: int, at_once: int = 1) -> Rules:
    """How cases are raced for `keep` places."""
    cap = settings.selection_passes
    start = START if settings.selection_estimator == "racing" else cap
    return Rules(keep=keep, cap=cap, z=settings.selection_z, start=min(start, cap), unit=at_once)


@dataclass(frozen=True)
class _Scoring:
    """A race whose losses come from an earlier run's file, or else from the model."""

    cases: Cases
    scorer: PretextScorer
    rules: Rules
    reporter: Reporter
    file: LossFile

    def run(self) -> dict[str, Verdict]:
        race, total = Race(list(self.cases), self.rules), len(self.cases) * self.rules.cap
        if self.file.discarded:
            self.reporter.warning(f"{MDS_STAGE} starts again: data or settings changed since its last pass.")
        tally = _Tally(race, self.file, self.rules.cap)
        self.reporter.stage(MDS_STAGE, total, tally.done())
        verdicts = race.run(lambda case, passes: self._losses(tally, case, passes))
        self.reporter.step(total)
        self.reporter.message(_summary(verdicts, total))
        return verdicts

    def _losses(self, tally: _Tally, case: str, passes: range) -> list[float]:
        for first in range(self.file.count(case), passes.stop, self.scorer.at_once):
            some = range(first, min(first + self.scorer.at_once, passes.stop))
            self.file.append(case, pretext_losses({case: self.cases[case]}, self.scorer, some)[case])
            tally.add(len(some))
            self.reporter.step(tally.done())
        return self.file.of(case)[passes.start : passes.stop]


class _Tally:
    """Passes that are finished; a case that is decided needs no more, and counts as wholly done."""

    def __init__(self, race: Race, file: LossFile, cap: int) -> None:
        self._race, self._file, self._cap = race, file, cap
        self._decided, self._known = -1, 0  # of the undecided cases

    def add(self, passes: int) -> None:
        """An undecided case has so many passes more. Counting all cases anew after each would be slow with many."""
        self._known += passes

    def done(self) -> int:
        decided = len(self._race.verdicts)
        if decided != self._decided:
            self._decided = decided
            self._known = sum(map(self._file.count, self._race.undecided))
        return decided * self._cap + self._known


def _summary(verdicts: Mapping[str, Verdict], total: int) -> str:
    used = sum(len(verdict.losses) for verdict in verdicts.values())
    ties = sum(verdict.tie for verdict in verdicts.values())
    tied = f"; {ties} cases lie in the tie zone, where the order is not sure" if ties else ""
    return f"{MDS_STAGE}: {used:,} passes of at most {total:,}{tied}."


def _scored(verdict: Verdict) -> SelectionScore:
    return SelectionScore(
        case=verdict.case,
        loss=verdict.mean,
        standard_error=verdict.standard_error,
        interval=verdict.interval,
        passes=len(verdict.losses),
        kept=verdict.kept,
        reason=verdict.reason,
    )


def _clustered(cases: Cases, reader: FeatureReader, size: int, reporter: Reporter) -> list[SelectionScore]:
    reporter.stage(CLUSTER_STAGE, len(cases))
    rows = []
    for number, case in enumerate(cases.values()):
        rows.append(reader.features(case))
        reporter.step(number + 1)
    kept = nearest_to_centres(np.array(rows), size, reader.seed)
    reasons: tuple[SelectionReason, SelectionReason] = ("cluster member", "cluster centre")
    return [_without_loss(case, number in kept, reasons, CROPS) for number, case in enumerate(cases)]


def _unscored(cases: list[str], settings: AdaptSettings, size: int, seed: int) -> list[SelectionScore]:
    reason: SelectionReason = "random"
    if settings.selection == "random":
        cases = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]
    elif settings.selection in ("all", "none"):
        reason = settings.selection
    else:
        raise ValueError(f"selection '{settings.selection}' needs a model")
    return [_without_loss(case, number < size, (reason, reason)) for number, case in enumerate(cases)]


def _without_loss(
    case: str, kept: bool, reasons: tuple[SelectionReason, SelectionReason], passes: int = 0
) -> SelectionScore:
    return SelectionScore(case=case, loss=None, standard_error=None, passes=passes, kept=kept, reason=reasons[kept])
