"""Cross-validation of an adaptation where few cases are held out: real trainings of a small network."""

from __future__ import annotations

from pathlib import Path

import pytest
from learning_samples import Notes
from sabotage_samples import adapt, add_scans, copied, first_learned, new_job

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.jobs.estimate import estimate
from MedSeqFTLib.learning.folds import plan_folds
from MedSeqFTLib.learning.promotion import verdict_of
from MedSeqFTLib.learning.settings import adapt_settings
from MedSeqFTLib.workspace.audit_check import verify
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace

SHORT = {"stage_a_steps": 8, "cross_validation": 2}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two cases are held out, two were learned, four are new."""
    workspace = first_learned(tmp_path_factory.mktemp("learned"), held_out=2)
    add_scans(workspace, range(10, 14), Role.TRAIN)
    return workspace


class Killed(Notes):
    """Stops in a stage as a kill would."""

    def step(self, step: int, losses: object = None, *, dice: object = None) -> None:
        if self.stages[-1] == "fold 2 of 2" and step == 5:
            raise KeyboardInterrupt


def test_every_new_case_is_measured_without_having_been_learned(learned: Workspace, tmp_path: Path) -> None:
    workspace, notes = copied(learned, tmp_path), Notes(tmp_path)
    version = adapt(workspace, notes, **SHORT)
    found = version.cross_validation
    assert found is not None and found.current is not None
    assert (found.folds, found.recipe.version, found.current.version) == (2, "M2", "M1")
    cases = {f"case{seed}" for seed in range(10, 14)}
    assert {case.case for case in found.recipe.cases} == {case.case for case in found.current.cases} == cases
    assert {case.reference for case in found.recipe.cases} == {version.learned[case] for case in cases}
    folds = ["fold 1 of 2", "fold 1 of 2, measured", "fold 2 of 2", "fold 2 of 2, measured"]
    assert notes.stages[-7:] == notes.planned[-7:] == [*folds, "stage A", "stage B", "held-out cases"]
    assert not list((tmp_path / "checkpoints").glob("fold*"))
    assert "2 held out, 4 cross-validated, which judge the recipe" in str(verdict_of(workspace, version))


def test_a_killed_one_repeats_no_fold_and_changes_no_weight(learned: Workspace, tmp_path: Path) -> None:
    """The new version itself is the one of an adaptation without folds, bit for bit."""
    workspace, plain = copied(learned, tmp_path / "one"), copied(learned, tmp_path / "other")
    job = new_job(workspace, **SHORT)
    with pytest.raises(KeyboardInterrupt):
        adapt(workspace, Killed(tmp_path), job)
    again = Notes(tmp_path)
    version = adapt(workspace, again, job)
    assert "fold 1 of 2" not in again.stages and "fold 2 of 2" in again.stages
    assert version.cross_validation is not None and len(version.cross_validation.recipe.cases) == 4
    assert version.files == adapt(plain, **{**SHORT, "cross_validation": 0}).files


@pytest.mark.slow
def test_sabotaged_labels_do_not_pass_by_agreeing_with_each_other(tmp_path: Path, learned: Workspace) -> None:
    """Cross-validation measures against the sabotaged labels and praises them; held-out cases object."""
    workspace = first_copy(learned, tmp_path)
    before = workspace.pointers()
    add_scans(workspace, range(20, 26), Role.TRAIN, "swapped between structures")
    version = adapt(workspace, cross_validation=2)
    found = version.cross_validation
    assert found is not None and found.current is not None
    assert (found.recipe.mean_dice or 0) > (found.current.mean_dice or 0)
    assert workspace.pointers() == before
    assert "not enough evidence" in str(verdict_of(workspace, version))
    assert verify(workspace).problems == ()


def first_copy(learned: Workspace, folder: Path) -> Workspace:
    """After the four good cases were learned: M2."""
    workspace = copied(learned, folder)
    version = adapt(workspace)
    assert workspace.pointers().tasks["balls"] == version.id
    return workspace


def test_too_few_new_cases_are_told_and_it_goes_on(tmp_path: Path, learned: Workspace) -> None:
    workspace, notes = copied(learned, tmp_path), Notes(tmp_path)
    adapt(workspace, **{**SHORT, "cross_validation": 0})
    if "M2" not in workspace.pointers().tasks.values():  # this short a training need not be better
        workspace.promote("M2", "reader", "go on")
    add_scans(workspace, range(20, 21), Role.TRAIN)
    assert adapt(workspace, notes, **SHORT).cross_validation is None
    assert any(text.startswith("No cross-validation: it needs two training cases") for text in notes.messages)


def test_what_was_learned_anywhere_in_the_lineage_is_not_left_out(tmp_path: Path, learned: Workspace) -> None:
    workspace, settings = copied(learned, tmp_path), adapt_settings("thorough", {})
    assert plan_folds(workspace, "balls", adapt_settings("balanced", {})).folds == ()
    names = [[case.id for case in fold] for fold in plan_folds(workspace, "balls", settings).folds]
    assert names == [["case10", "case13"], ["case11"], ["case12"]]
    work = estimate(workspace, "balls", settings)
    assert (work.folds, work.steps) == (3, 1500 + 375 + 3 * 1500)
    add_scans(workspace, range(200, 203), Role.VALIDATION)
    assert plan_folds(workspace, "balls", settings) == ((), "")
    assert estimate(workspace, "balls", settings).steps == 1500 + 375


def test_one_fold_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 folds"):
        adapt_settings("quick", {"cross_validation": "1"})
