"""Means of what was measured on cases, and how much could not be measured. Light: imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Literal

from MedSeqFTLib.workspace.schema import CaseScore

#: The measures of a CaseScore: Dice and NSD in 0..1, HD95 in mm.
Measure = Literal["dice", "hd95", "nsd"]


def per_label(scores: Iterable[CaseScore], measure: Measure) -> Mapping[str, float]:
    """Mean over cases by label name, undefined figures left out; labels without any figure are not in it."""
    values: dict[str, list[float]] = {}
    for score in scores:
        by_name: dict[str, float | None] = getattr(score, measure)
        for name, value in by_name.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: fmean(found) for name, found in values.items()}


def mean(scores: Iterable[CaseScore], measure: Measure) -> float | None:
    """Mean over labels of the mean over cases, undefined figures left out; None if nothing is left."""
    means = per_label(scores, measure).values()
    return fmean(means) if means else None


def per_label_dice(scores: Iterable[CaseScore]) -> Mapping[str, float]:
    """Mean Dice over cases by label name; labels without any reference are left out."""
    return per_label(scores, "dice")


def mean_dice(scores: Iterable[CaseScore]) -> float | None:
    """Mean over labels of the mean Dice over cases, empty references left out; None if nothing is left."""
    return mean(scores, "dice")


def empty_references(scores: Iterable[CaseScore]) -> Counter[str]:
    """Cases by label name whose reference is empty; they are in no mean. Of all labels: `.total()`."""
    return Counter(name for score in scores for name, dice in score.dice.items() if dice is None)


def missed(scores: Iterable[CaseScore]) -> Counter[str]:
    """Cases by label name where the label is in the reference and nothing was predicted. Of all labels: `.total()`.

    They count as 0 in Dice and NSD, and are not in the mean of HD95. Where surfaces were not measured none is found.
    """
    return Counter(
        name
        for score in scores
        for name, distance in score.hd95.items()
        if distance is None and score.dice[name] is not None
    )
