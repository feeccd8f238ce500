"""Where a chain begins: the starter, an imported supervised model, a substitute head; in the test's own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from learning_samples import TINY, Notes, ball_workspace

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.jobs.job import Job
from MedSeqFTLib.learning.adaptation import run_adaptation
from MedSeqFTLib.learning.data import make_plan, patch_unit
from MedSeqFTLib.learning.publishing import publish_foundation, save_modules
from MedSeqFTLib.learning.settings import adapt_settings
from MedSeqFTLib.models.catalogue import catalogue
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.weights import BACKBONE
from MedSeqFTLib.workspace.networks import (
    MaskedReconstructionDescription,
    ResidualUNetDescription,
    SegResNetDescription,
)
from MedSeqFTLib.workspace.schema import ExpectedInput, Modality, ModelVersion, Role, Window, now
from MedSeqFTLib.workspace.workspace import Workspace


def adapted(workspace: Workspace, folder: Path, **changes: str) -> tuple[ModelVersion, Notes]:
    settings: Any = adapt_settings("quick", {**TINY, **changes}).model_dump(mode="json")
    job = Job(id="adapt-1", kind="adapt", created=now(), task="balls", settings=settings, seed=0)
    notes = Notes(folder)
    return workspace.version(run_adaptation(workspace, job, notes)), notes


def published(workspace: Workspace, network: Any, **declared: Any) -> ModelVersion:
    """A foundation model with random weights and no pretext head."""
    with workspace.staging() as folder:
        save_modules(folder, {BACKBONE: build_backbone(network, 0)})
        return publish_foundation(workspace, folder, network, "random weights", **declared)


def test_an_adaptation_begins_with_the_starter(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path)
    version, notes = adapted(workspace, tmp_path, foundation="starter", selection_passes="2")
    first = workspace.version("M0")
    assert first.origin is not None
    assert (first.origin.model, first.origin.licence, first.origin.fresh) == ("medseqft-starter", "Apache-2.0", ())
    assert first.note.startswith("MedSeqFT starter. Pre-trained by masked reconstruction on 138 unlabelled images")
    assert (version.parent, version.network) == ("M0", catalogue().model("medseqft-starter").network)
    assert version.selection is not None
    assert version.selection.pretext == first.pretext
    assert any("begins with the MedSeqFT starter model" in text for text in notes.messages)


def test_a_model_without_pretext_head_gets_a_substitute_or_another_selection(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path)
    published(workspace, SegResNetDescription(filters=8, blocks_down=(1, 1), blocks_up=(1,)))
    with pytest.raises(InputError, match="selection=mds-substitute"):
        adapted(workspace, tmp_path)
    version, _ = adapted(workspace, tmp_path, selection="mds-substitute")
    assert version.selection is not None
    assert version.selection.method == "mds-substitute"
    assert version.selection.pretext == MaskedReconstructionDescription()
    assert all(score.loss is not None and score.passes == 4 for score in version.selection.scores)
    assert version.network.kind == "segresnet"


def test_the_blocks_of_a_substitute_fill_any_patch(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path)
    published(workspace, SegResNetDescription(filters=8, blocks_down=(1, 1), blocks_up=(1,)))
    version, _ = adapted(workspace, tmp_path, selection="mds-substitute", patch_side="0")
    assert version.selection is not None
    assert any(side % 8 for side in version.plans["balls"].patch), "otherwise nothing is tested here"
    assert version.selection.pretext == MaskedReconstructionDescription(block=2)


def test_a_substitute_head_leaves_the_foundation_model_as_it_is(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path)
    network = ResidualUNetDescription(channels=(4, 8), decoder_features=4)
    first = published(workspace, network)
    before = first.files
    adapted(workspace, tmp_path, selection="mds-substitute")
    workspace.verify_version(workspace.version(first.id))
    assert workspace.version(first.id).files == before


def test_a_task_is_prepared_as_the_foundation_model_expects(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path)
    task, cases = workspace.task("balls"), workspace.cases("balls", Role.TRAIN)
    expected = ExpectedInput(
        intensity={Modality.MR: Window(low=0, high=200)}, spacing=(2.0, 2.0, 2.0), patch=(32, 96, 96)
    )
    network = ResidualUNetDescription(channels=(4, 8, 16), decoder_features=4)
    model = published(workspace, network, input=expected)

    def plan(**changes: str) -> Any:
        return make_plan(workspace, task, cases, model, model, adapt_settings("quick", changes))

    own = plan()
    assert own.intensity == Window(low=0, high=200)
    assert own.spacing == pytest.approx((1.5, 1.2, 2.0), abs=0.01)
    assert plan(spacing="foundation").spacing == (2.0, 2.0, 2.0)
    assert plan(preparation="task").intensity == task.intensity
    assert patch_unit(model) == network.stride
    assert own.patch[0] <= 32
    assert all(side % network.stride == 0 for side in own.patch)
    assert plan(patch_side="16").patch == (16, 16, 16)
