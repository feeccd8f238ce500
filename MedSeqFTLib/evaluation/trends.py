"""Trends and ranks for few values: each comes with an interval or a chance, and is silent where there is too little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from MedSeqFTLib.evaluation.bootstrap import DRAWS, SHARE, Interval

Values = NDArray[np.float64]


def line_change(places: Values, values: Values) -> Interval:
    """Change along a straight line from the lowest to the highest place, with a bootstrap over the points."""
    reach = float(np.ptp(places))
    drawn = np.random.default_rng(0).integers(len(places), size=(DRAWS, len(places)))
    slopes = _slopes(places[drawn], values[drawn]) * reach
    mean = float(_slopes(places[None], values[None])[0]) * reach
    low, high = np.nanpercentile(slopes, ((100 - SHARE) / 2, (100 + SHARE) / 2))
    return Interval(mean, float(low), float(high), 1)


def _slopes(places: Values, values: Values) -> Values:
    """Of each row; NaN where all places are one."""
    across = places - places.mean(1, keepdims=True)
    square = (across**2).sum(1)
    return np.divide((across * values).sum(1), square, out=np.full(len(square), np.nan), where=square > 0)


def rank_correlation(first: Values, second: Values) -> tuple[float, float] | None:
    """Spearman's, and the share of permutations that are as far from 0; None if one of them never differs."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) - (len(first) + 1) / 2 for values in (first, second)]
    norm = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    if norm == 0:
        return None
    shuffled = np.random.default_rng(0).permuted(np.tile(ranks[1], (DRAWS, 1)), axis=1) @ ranks[0]
    found = float(ranks[0] @ ranks[1])
    return found / norm, (1 + int((np.abs(shuffled) >= abs(found) - 1e-9).sum())) / (1 + DRAWS)
