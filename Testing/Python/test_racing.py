"""Racing on replayed matrices of losses: no network, no images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray
from scipy import stats

from MedSeqFTLib.learning.selection.racing import Race, Rules, Verdict

Matrix = NDArray[np.float64]


def drawn(means: Sequence[float], passes: int, seed: int, common: float = 1.0, own: float = 0.5) -> Matrix:
    """Losses [cases, passes]: every pass has a difficulty that all cases share, and every case noise of its own."""
    random = np.random.default_rng(seed)
    noise = own * random.normal(size=(len(means), passes))
    return np.array(means)[:, None] + common * random.normal(size=passes) + noise


def names(matrix: Matrix) -> list[str]:
    return [f"case{number:02}" for number in range(len(matrix))]


def replay(matrix: Matrix) -> Callable[[str, range], list[float]]:
    rows = dict(zip(names(matrix), matrix.tolist(), strict=True))
    return lambda case, passes: rows[case][passes.start : passes.stop]


def raced(matrix: Matrix, keep: int, z: float = 3.0, **rules: int) -> dict[str, Verdict]:
    return Race(names(matrix), Rules(keep=keep, cap=matrix.shape[1], z=z, **rules)).run(replay(matrix))


def kept(verdicts: dict[str, Verdict]) -> set[str]:
    return {case for case, verdict in verdicts.items() if verdict.kept}


def lowest(scores: Sequence[float], keep: int) -> set[str]:
    return {f"case{i:02}" for i in np.argsort(scores, kind="stable")[:keep]}


@pytest.mark.parametrize("seed", range(5))
def test_well_separated_cases_need_far_fewer_passes(seed: int) -> None:
    means = np.random.default_rng(seed).permutation(np.linspace(0, 8, 40))
    matrix = drawn(means, 1000, seed)
    verdicts = raced(matrix, 10)
    assert kept(verdicts) == lowest(matrix.mean(axis=1), 10) == lowest(means, 10)
    assert sum(len(verdict.losses) for verdict in verdicts.values()) < matrix.size / 20
    assert {verdict.reason for verdict in verdicts.values()} == {"decided in", "decided out"}


def test_only_undecided_cases_get_more_passes() -> None:
    matrix = drawn([0, 1, 1.05, 5, 6, 7], 200, 3)
    asked: dict[str, list[range]] = {}

    def losses(case: str, passes: range) -> list[float]:
        asked.setdefault(case, []).append(passes)
        return replay(matrix)(case, passes)

    verdicts = Race(names(matrix), Rules(keep=2, cap=200, z=3)).run(losses)
    spent = [len(verdicts[case].losses) for case in names(matrix)]
    assert max(spent[:1] + spent[3:]) <= 45 < min(spent[1:3])
    for case, ranges in asked.items():
        assert [i for passes in ranges for i in passes] == list(range(len(verdicts[case].losses))), (
            "no pass is repeated"
        )


def test_common_random_numbers_decide_sooner() -> None:
    """The same noise of each case, once shared by all cases and once drawn for each: pairing is what makes it cheap."""
    means = np.linspace(0, 1, 12)
    paired, unpaired = drawn(means, 400, 0, common=2, own=0.1), drawn(means, 400, 0, common=0, own=2)
    passes = [sum(len(v.losses) for v in raced(matrix, 4).values()) for matrix in (paired, unpaired)]
    assert 10 * passes[0] < passes[1]
    assert kept(raced(paired, 4)) == lowest(means, 4)


@pytest.mark.parametrize("seed", range(10))
def test_near_ties_end_in_the_tie_zone_and_nobody_else(seed: int) -> None:
    means = [0, 0.2, 2.0, 2.001, 2.002, 2.003, 4, 4.2]
    verdicts = raced(drawn(means, 100, seed), 4)
    tied = {case for case, verdict in verdicts.items() if verdict.tie}
    assert tied == {"case02", "case03", "case04", "case05"}
    assert kept(verdicts) - tied == {"case00", "case01"}
    assert lowest(means, 4) <= kept(verdicts) | tied
    assert all(len(verdicts[case].losses) == 100 for case in tied)
    best = sorted(tied, key=lambda case: verdicts[case].mean)
    assert [verdicts[case].reason for case in best] == ["tie zone, kept by mean"] * 2 + ["tie zone, left by mean"] * 2


@pytest.mark.parametrize("z", [0.0, 2.0, 10.0])
def test_a_race_that_starts_at_the_cap_is_the_plain_estimator(z: float) -> None:
    matrix = drawn(np.linspace(0, 1, 20), 50, 1)
    verdicts = raced(matrix, 6, z, start=50)
    assert kept(verdicts) == lowest(matrix.mean(axis=1), 6)
    assert all(verdict.losses == tuple(row) for verdict, row in zip(_in_order(verdicts), matrix.tolist(), strict=True))


def _in_order(verdicts: dict[str, Verdict]) -> list[Verdict]:
    return [verdicts[case] for case in sorted(verdicts)]


def test_the_order_of_cases_changes_nothing() -> None:
    matrix = drawn(np.linspace(0, 2, 15), 100, 2)
    there = raced(matrix, 5, 2)
    back = Race(names(matrix)[::-1], Rules(keep=5, cap=100, z=2)).run(replay(matrix))
    assert _in_order(there) == _in_order(back)


def test_cases_without_any_difference_are_tied() -> None:
    verdicts = raced(np.ones((4, 30)), 2)
    assert kept(verdicts) == {"case00", "case01"}
    assert all(verdict.tie for verdict in verdicts.values())


@pytest.mark.parametrize(("keep", "reason"), [(0, "decided out"), (5, "decided in")])
def test_where_nothing_is_to_choose_the_first_round_is_the_last(keep: int, reason: str) -> None:
    verdicts = raced(drawn(range(5), 100, 0), keep)
    assert [(verdict.reason, len(verdict.losses)) for verdict in verdicts.values()] == [(reason, 30)] * 5


def test_a_single_pass_decides_nothing_surely() -> None:
    verdicts = raced(np.array([[3.0], [1.0], [2.0]]), 1)
    assert kept(verdicts) == {"case01"}
    assert all(verdict.tie for verdict in verdicts.values())
    assert verdicts["case01"].standard_error is verdicts["case01"].interval is None


def test_rounds_grow_by_half_and_end_at_the_cap() -> None:
    def rounds(rules: Rules) -> list[int]:
        ends = [0]
        while ends[-1] < rules.cap:
            ends.append(rules.until(ends[-1]))
        return ends[1:]

    assert rounds(Rules(keep=1, cap=200, z=2)) == [30, 45, 68, 102, 153, 200]
    assert rounds(Rules(keep=1, cap=201, z=2, unit=5)) == [30, 45, 70, 105, 160, 201]
    assert rounds(Rules(keep=1, cap=3, z=2)) == [3]
    assert rounds(Rules(keep=1, cap=4, z=2, start=1, growth=1.0)) == [1, 2, 3, 4]


def test_a_round_wants_all_of_its_losses() -> None:
    race = Race(["a", "b"], Rules(keep=1, cap=40, z=2))
    with pytest.raises(ValueError, match="b: 3 losses for 30 passes"):
        race.close_round({"a": [0.0] * 30, "b": [0.0] * 3})


def test_the_interval_is_students() -> None:
    losses = (0.3, 0.1, 0.4, 0.15, 0.9)
    verdict = Verdict("a", losses, True, "decided in")
    expected = stats.t.interval(0.95, 4, loc=np.mean(losses), scale=stats.sem(losses))
    assert verdict.interval == pytest.approx(expected)
    assert verdict.standard_error == pytest.approx(stats.sem(losses))


@given(
    seed=some.integers(0, 10_000),
    cases=some.integers(1, 12),
    share=some.floats(0, 1),
    cap=some.integers(1, 60),
    z=some.floats(0, 5),
    unit=some.integers(1, 7),
    equal=some.booleans(),
)
def test_any_race_keeps_exactly_k(
    seed: int, cases: int, share: float, cap: int, z: float, unit: int, equal: bool
) -> None:
    matrix = np.round(drawn(np.zeros(cases), cap, seed), 0 if equal else 9)
    keep = round(share * cases)
    verdicts = raced(matrix, keep, z, unit=unit)
    assert len(verdicts) == cases
    assert len(kept(verdicts)) == keep
    for case, row in zip(names(matrix), matrix.tolist(), strict=True):
        losses = verdicts[case].losses
        assert list(losses) == row[: len(losses)]
        assert verdicts[case].kept == (verdicts[case].reason in ("decided in", "tie zone, kept by mean"))
