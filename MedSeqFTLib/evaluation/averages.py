"""Means of what was measured on cases. Light: imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean

from MedSeqFTLib.workspace.schema import CaseScore


def mean_dice(scores: Iterable[CaseScore]) -> float | None:
    """Mean over labels of the mean over cases, empty references left out; None if nothing is left."""
    means = per_label_dice(scores).values()
    return fmean(means) if means else None


def per_label_dice(scores: Iterable[CaseScore]) -> Mapping[str, float]:
    """Mean Dice over cases by label name; labels without any reference are left out."""
    values: dict[str, list[float]] = {}
    for score in scores:
        for name, value in score.dice.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: fmean(found) for name, found in values.items()}
