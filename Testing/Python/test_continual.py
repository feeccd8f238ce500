"""ACC, BWT, FWT, gains and their intervals, against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from comparison_samples import cells, flat, scores

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.bootstrap import Interval, interval
from MedSeqFTLib.evaluation.continual import Analysis
from MedSeqFTLib.evaluation.results import Comparison, Cost, Measured, StrategyNote, Transfer

A, B, C = "task_a", "task_b", "task_c"
#: b[i]; a[i][i] with own models; a[t][i] with one model. By hand: see the first tests.
BASELINE = {(1, A): 0.75, (2, B): 0.65, (3, C): 0.80}
OWN = {(1, A): 0.82, (2, B): 0.60, (3, C): 0.90}
ONE = {(1, A): 0.80, (2, A): 0.70, (2, B): 0.60, (3, A): 0.50, (3, B): 0.55, (3, C): 0.90}


def comparison(*measured: Measured, **changes: object) -> Comparison:
    start = Comparison(
        title="By hand",
        orders=((A, B, C), (C, B, A)),
        strategies=(
            StrategyNote("parallel", "From M0 each time.", "nothing", "none"),
            StrategyNote("chain", "One after another.", "nothing", "measured"),
            StrategyNote("frozen", "Frozen backbone.", "nothing", "same as per task"),
            StrategyNote("together", "All at once.", "everything", "same as per task"),
        ),
        measured=measured,
    )
    return replace(start, **changes)  # type: ignore[arg-type]


def chain(seed: int = 0) -> list[Measured]:
    return cells("chain", OWN, seed=seed) + cells("chain", ONE, "single-model", seed=seed)


def by_hand() -> Analysis:
    return Analysis(comparison(*cells("parallel", BASELINE), *chain()), draws=200)


def mean(found: Interval | None) -> float:
    assert found is not None
    return found.mean


# --- measures -------------------------------------------------------------------------------------------------------


def test_single_model_measures_are_those_worked_out_by_hand() -> None:
    analysis = by_hand()
    assert mean(analysis.acc("chain", "single-model")) == pytest.approx((0.50 + 0.55 + 0.90) / 3)
    assert mean(analysis.bwt("chain")) == pytest.approx(((0.50 - 0.80) + (0.55 - 0.60)) / 2)
    assert mean(analysis.fwt("chain", "single-model")) == pytest.approx(((0.60 - 0.65) + (0.90 - 0.80)) / 2)
    assert mean(analysis.gain("chain", "single-model")) == pytest.approx((-0.25 - 0.10 + 0.10) / 3)


def test_per_task_measures_are_those_worked_out_by_hand() -> None:
    analysis = by_hand()
    assert mean(analysis.acc("chain", "per-task")) == pytest.approx((0.82 + 0.60 + 0.90) / 3)
    assert mean(analysis.gain("chain", "per-task")) == pytest.approx((0.07 - 0.05 + 0.10) / 3)
    assert mean(analysis.fwt("chain")) == pytest.approx((-0.05 + 0.10) / 2)
    assert analysis.of_task("chain", "per-task", B) == pytest.approx(0.60)


def test_matrix_has_stages_as_rows_and_nothing_before_a_task_is_learnt() -> None:
    nothing = None
    assert by_hand().matrix("chain", 0) == [
        [pytest.approx(0.80), nothing, nothing],
        [pytest.approx(0.70), pytest.approx(0.60), nothing],
        [pytest.approx(0.50), pytest.approx(0.55), pytest.approx(0.90)],
    ]
    assert by_hand().matrix("chain", 1) is None, "no run has this order"
    assert by_hand().matrix("parallel", 0) is None


def test_the_baseline_has_a_mean_and_nothing_else() -> None:
    analysis = by_hand()
    assert mean(analysis.acc("parallel", "per-task")) == pytest.approx((0.75 + 0.65 + 0.80) / 3)
    assert analysis.gain("parallel", "per-task") is None
    assert analysis.fwt("parallel") is None
    assert analysis.bwt("parallel") is None
    assert analysis.acc("parallel", "single-model") is None


def test_each_order_leaves_out_its_own_first_or_last_task_and_shares_the_baseline() -> None:
    other = {(1, C): 0.70, (2, C): 0.70, (2, B): 0.70, (3, C): 0.60, (3, B): 0.66, (3, A): 0.77}
    own = {(1, C): 0.70, (2, B): 0.70, (3, A): 0.77}
    more = cells("chain", other, "single-model", order=1) + cells("chain", own, order=1)
    analysis = Analysis(comparison(*cells("parallel", BASELINE), *chain(), *more), draws=200)
    bwt, fwt = analysis.bwt("chain"), analysis.fwt("chain")
    assert mean(bwt) == pytest.approx((-0.175 + ((0.60 - 0.70) + (0.66 - 0.70)) / 2) / 2)
    assert mean(fwt) == pytest.approx((0.025 + ((0.70 - 0.65) + (0.77 - 0.75)) / 2) / 2)
    assert bwt is not None and bwt.runs == 2


def test_a_strategy_that_cannot_forget_has_the_same_readings_and_no_bwt() -> None:
    analysis = Analysis(comparison(*cells("parallel", BASELINE), *cells("frozen", OWN)), draws=200)
    assert analysis.acc("frozen", "single-model") == analysis.acc("frozen", "per-task")
    assert analysis.bwt("frozen") is None
    assert analysis.cannot_forget("frozen")
    assert analysis.fwt("frozen", "single-model") == analysis.fwt("frozen", "per-task")


def test_tasks_that_are_learnt_all_at_once_have_no_transfer() -> None:
    at_once = {(3, A): 0.8, (3, B): 0.7, (3, C): 0.9}
    analysis = Analysis(comparison(*cells("parallel", BASELINE), *cells("together", at_once)), draws=200)
    assert mean(analysis.gain("together", "single-model")) == pytest.approx((0.05 + 0.05 + 0.10) / 3)
    assert analysis.fwt("together") is None
    assert analysis.bwt("together") is None
    assert not analysis.cannot_forget("together"), "there are no stages between which to forget"
    of_two = [c for c in cells("parallel", BASELINE) if c.task != C] + cells("together", {(2, A): 0.8, (2, B): 0.7})
    two = Analysis(comparison(*of_two, orders=((A, B),)), draws=200)
    assert two.gain("together", "per-task") is not None
    assert two.fwt("together") is None, "the last task was learnt in its place by chance"


def test_scores_are_means_over_labels_of_means_over_cases_without_empty_references() -> None:
    dice = {"left": [0.8, 0.6, 0.7], "right": [0.4, None, None], "never": [None, None, None]}
    cell = Measured("parallel", 0, 0, 1, A, "per-task", scores(dice))
    analysis = Analysis(comparison(cell, orders=((A,),)), draws=200)
    assert mean(analysis.acc("parallel", "per-task")) == pytest.approx((0.7 + 0.4) / 2)
    assert (analysis.misses("parallel", "per-task").present, analysis.misses("parallel", "per-task").empty) == (4, 5)


def test_missed_distances_are_counted_and_left_out_on_both_sides() -> None:
    dice = {"a": [0.8, 0.8, 0.0]}
    before = scores(dice, hd95={"a": [3.0, 5.0, 40.0]}, nsd={"a": [0.9, 0.8, 0.1]})
    after = scores(dice, hd95={"a": [2.0, 5.0, None]}, nsd={"a": [1.0, 0.9, 0.0]})
    found = comparison(
        Measured("parallel", 0, 0, 1, A, "per-task", before),
        Measured("frozen", 0, 0, 1, A, "per-task", after),
        orders=((A,),),
    )
    analysis = Analysis(found, draws=200)
    assert mean(analysis.acc("frozen", "per-task", "hd95")) == pytest.approx(3.5)
    assert mean(analysis.gain("frozen", "per-task", "hd95")) == pytest.approx((-1.0 + 0.0) / 2), "case 2 is left out"
    assert mean(analysis.gain("frozen", "per-task", "nsd")) == pytest.approx((0.1 + 0.1 - 0.1) / 3)
    assert analysis.misses("frozen", "per-task").missed == 1
    assert analysis.misses("parallel", "per-task").missed == 0


def test_a_task_of_which_everything_is_missed_leaves_no_mean_distance() -> None:
    cell = scores({"a": [0.0, 0.0]}, hd95={"a": [None, None]})
    found = comparison(Measured("parallel", 0, 0, 1, A, "per-task", cell), orders=((A,),))
    assert Analysis(found, 200).acc("parallel", "per-task", "hd95") is None
    assert mean(Analysis(found, 200).acc("parallel", "per-task")) == 0.0


def test_unfinished_runs_are_left_out() -> None:
    whole, torn = chain(), cells("chain", {(1, A): 0.1, (2, B): 0.1}, seed=1)
    first = comparison(*cells("parallel", BASELINE), *whole)
    analysis = Analysis(replace(first, measured=(*first.measured, *torn)), draws=200)
    assert analysis.matrices.complete("chain") == [(0, 0)]
    assert analysis.acc("chain", "per-task") == Analysis(first, draws=200).acc("chain", "per-task")
    without_baseline = Analysis(comparison(*whole), draws=200)
    assert without_baseline.gain("chain", "per-task") is None
    assert without_baseline.acc("chain", "per-task") is not None


def test_unseen_tasks_compare_with_the_foundation_model_by_seed() -> None:
    transfers = [Transfer("", seed, 0, "new", flat(0.5 + seed / 10)) for seed in (0, 1)]
    transfers += [Transfer("chain", seed, 1, "new", flat(0.56 + seed / 10)) for seed in (0, 1)]
    analysis = Analysis(comparison(transfers=tuple(transfers)), draws=200)
    gain = analysis.transfer_gain("chain", ["new"])
    assert mean(analysis.transfer("", ["new"])) == pytest.approx(0.55)
    assert gain is not None and gain.runs == 2
    assert (gain.low, gain.high) == (pytest.approx(0.06), pytest.approx(0.06))


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        comparison(*chain(), *chain())
    with pytest.raises(InputError, match="'lwf' is not among"):
        comparison(baseline="lwf")
    with pytest.raises(InputError, match="'other' has results"):
        comparison(*cells("other", OWN))
    with pytest.raises(InputError, match="order 2 does not exist"):
        comparison(costs=(Cost("chain", 0, 2, 1, A, 1.0, None),))
    with pytest.raises(InputError, match="no task 'liver' after stage 1"):
        comparison(*cells("chain", {(1, "liver"): 0.5}))


# --- bootstrap ------------------------------------------------------------------------------------------------------


def sample(rng: np.random.Generator, runs: int = 6, cases: int = 12, labels: int = 2) -> np.ndarray:
    """Differences with an effect of the run and of the case."""
    size = (runs, cases, labels)
    return 0.02 * rng.normal(size=(runs, 1, 1)) + 0.03 * rng.normal(size=(1, cases, 1)) + 0.02 * rng.normal(size=size)


def test_identical_strategies_differ_by_exactly_zero() -> None:
    values = sample(np.random.default_rng(0))
    assert interval([values - values, values - values], draws=500) == Interval(0.0, 0.0, 0.0, 6)


def test_a_constant_shift_is_found_exactly() -> None:
    values = sample(np.random.default_rng(0))
    values[:, 3, 1] = np.nan  # an empty reference
    found = interval([(values + 0.1) - values] * 3, draws=500)
    assert found is not None
    assert (found.mean, found.low, found.high) == tuple(pytest.approx(0.1, abs=1e-12) for _ in range(3))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        found = interval([sample(rng) + 0.05 for _ in range(3)], draws=300, seed=trial)
        assert found is not None
        covered += found.low <= 0.05 <= found.high
    assert 170 <= covered <= 198, "95 % of 200 is 190; six runs make it a little less"


def test_more_cases_make_a_narrower_interval() -> None:
    rng = np.random.default_rng(2)
    few, many = (interval([rng.normal(0, 0.1, (1, cases, 1))], draws=2000) for cases in (8, 128))
    assert few is not None and many is not None
    assert few.high - few.low > 2.5 * (many.high - many.low)


def test_tasks_weigh_the_same_whatever_their_number_of_cases() -> None:
    found = interval([np.full((1, 2, 1), 0.2), np.full((1, 50, 3), 0.4)], draws=50)
    assert found is not None and found.mean == pytest.approx(0.3)


def test_both_ways_of_counting_give_the_same_interval() -> None:
    """A label without any reference takes the way of undefined values, and changes nothing."""
    values = sample(np.random.default_rng(3))
    padded = np.concatenate([values, np.full((6, 12, 1), np.nan)], axis=2)
    plain, careful = interval([values], draws=500), interval([padded], draws=500)
    assert plain is not None and careful is not None
    assert (careful.mean, careful.low, careful.high) == pytest.approx((plain.mean, plain.low, plain.high), abs=1e-12)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = sample(np.random.default_rng(4))
    assert interval([values], draws=300) == interval([values], draws=300)
    assert interval([values], draws=300) != interval([values], draws=300, seed=1)


def test_nothing_to_draw_from_gives_nothing() -> None:
    assert interval([]) is None
    assert interval([np.empty((0, 3, 1))]) is None
    assert interval([np.full((2, 3, 1), np.nan)]) is None
