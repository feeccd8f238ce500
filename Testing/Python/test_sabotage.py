"""The gate stops an adaptation to sabotaged labels and passes a good one: real trainings of a small network."""

from __future__ import annotations

from pathlib import Path

import pytest
from learning_samples import Notes
from sabotage_samples import Labels, adapt, add_scans, copied, first_learned

from MedSeqFTLib.learning.promotion import verdict_of
from MedSeqFTLib.workspace.audit_check import verify
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace

NEW = range(10, 14)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A task whose first version is in use."""
    return first_learned(tmp_path_factory.mktemp("learned"))


def test_a_good_adaptation_is_promoted_by_itself(learned: Workspace, tmp_path: Path) -> None:
    workspace, notes = copied(learned, tmp_path), Notes(tmp_path)
    add_scans(workspace, NEW, Role.TRAIN)
    version = adapt(workspace, notes)
    assert workspace.pointers().tasks == {"balls": version.id}
    move = workspace.pointers().history[-1]
    assert move.who == "MedSeqFT"
    assert move.reason.startswith("against M1 better: held-out Dice of balls")
    assert notes.warnings == []
    assert verify(workspace).problems == ()


@pytest.mark.parametrize("labels", ["swapped between structures", "exchanged between cases"])
def test_a_sabotaged_adaptation_is_stopped(learned: Workspace, tmp_path: Path, labels: Labels) -> None:
    workspace, notes = copied(learned, tmp_path), Notes(tmp_path)
    before = workspace.pointers()
    add_scans(workspace, NEW, Role.TRAIN, labels)
    version = adapt(workspace, notes)
    assert workspace.pointers() == before
    found = verdict_of(workspace, version)
    assert found.own is not None and found.own.judgement == "worse"
    assert any("M2 kept as a candidate: against M1 worse" in warning for warning in notes.warnings)
    assert verify(workspace).problems == ()
