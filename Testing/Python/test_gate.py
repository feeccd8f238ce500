"""The gate: what held-out cases say of a candidate."""

from __future__ import annotations

import numpy as np
import pytest

from MedSeqFTLib.evaluation.gate import Comparison, compare
from MedSeqFTLib.workspace.schema import CaseScore, TaskScores

ROOMS = np.array([0.81, 0.72, 0.90, 0.66, 0.85, 0.78, 0.88, 0.70])


def scores(dice: list[dict[str, float | None]], version: str = "M1", first: int = 0) -> TaskScores:
    cases = tuple(CaseScore(case=f"case{first + n}", dice=values) for n, values in enumerate(dice))
    return TaskScores(task="balls", reading="per-task", version=version, cases=cases, mean_dice=None)


def compared(changes: list[float]) -> Comparison:
    """Cases of very different Dice that change by so much."""
    before = [{"ball": float(dice)} for dice in ROOMS[: len(changes)]]
    after = [{"ball": float(dice + change)} for dice, change in zip(ROOMS, changes, strict=False)]
    found = compare(scores(before), scores(after, "M2"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("changes", "judgement"),
    [
        ([0.02, 0.03, 0.01, 0.02, 0.03, 0.02, 0.01, 0.02], "better"),
        ([0.004, -0.006, 0.003, -0.002, 0.001, -0.004, 0.002, -0.001], "no worse within the margin"),
        ([-0.05, -0.03, -0.06, -0.04, -0.05, -0.02, -0.04, -0.05], "worse"),
        ([0.2, -0.2, 0.1, -0.15, 0.05, -0.1, 0.2, -0.2], "not enough evidence"),
        ([0.2], "not enough evidence"),
    ],
)
def test_the_interval_of_the_paired_change_decides(changes: list[float], judgement: str) -> None:
    found = compared(changes)
    assert found.judgement == judgement
    assert str(found).startswith(judgement)
    assert found.after - found.before == pytest.approx(np.mean(changes))


def test_pairing_sees_a_gain_that_is_small_beside_the_differences_of_the_cases() -> None:
    assert np.std(ROOMS) > 0.08
    assert compared([0.012, 0.015, 0.01, 0.013, 0.011, 0.014, 0.012, 0.013]).judgement == "better"


def test_a_lower_mean_alone_is_not_worse_and_a_higher_one_not_better() -> None:
    assert compared([0.1, -0.05, 0.02, -0.04]).judgement == "not enough evidence"
    assert compared([-0.1, 0.05, -0.02, 0.04]).judgement == "not enough evidence"


def test_only_what_both_were_measured_on_counts() -> None:
    before = scores([{"ball": 0.5, "cube": 0.9}, {"ball": None, "cube": 0.8}, {"ball": 0.6}])
    after = scores([{"cube": 0.7, "ball": 0.7}, {"ball": 0.9, "cube": None}, {"ball": 0.9, "cube": 0.1}], "M2")
    found = compare(before, after)
    assert found is not None
    assert found.cases == 2  # the second has no label with a figure on both sides
    assert found.before == pytest.approx((np.mean([0.5, 0.6]) + 0.9) / 2)
    assert found.after == pytest.approx((np.mean([0.7, 0.9]) + 0.7) / 2)


def test_nothing_in_common_is_no_comparison() -> None:
    assert compare(scores([{"ball": 0.5}]), None) is None
    assert compare(None, scores([{"ball": 0.5}])) is None
    assert compare(scores([{"ball": 0.5}]), scores([{"ball": 0.5}], first=1)) is None
    assert compare(scores([{"ball": None}]), scores([{"ball": 0.5}])) is None


def test_few_cases_are_said_to_be_a_rough_guide() -> None:
    assert "rough with fewer than 5 cases" in str(compared([0.02, 0.03, 0.02]))
    assert "rough" not in str(compared([0.02, 0.03, 0.02, 0.01, 0.02]))
    assert "one held-out case only" in str(compared([0.2]))
