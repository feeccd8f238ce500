"""M_0: where a workspace's chain begins, and with what head its training cases are scored."""

from __future__ import annotations

import math
from collections.abc import Sequence

from MedSeqFTLib.imaging.cache import PreparedCase, cache_key
from MedSeqFTLib.learning.forecast import SUBSTITUTE
from MedSeqFTLib.learning.importing import import_starter
from MedSeqFTLib.learning.preflight import check_selection
from MedSeqFTLib.learning.pretraining import PretextTraining
from MedSeqFTLib.learning.progress import Job, Reporter, Teller
from MedSeqFTLib.learning.publishing import publish_pretrained
from MedSeqFTLib.learning.selection.features import FeatureReader
from MedSeqFTLib.learning.selection.scoring import PretextScorer
from MedSeqFTLib.learning.settings import AdaptSettings, PretrainSettings
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.weights import frozen, load_backbone, load_pretext
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription
from MedSeqFTLib.workspace.schema import ModelVersion, Role, SelectionConditions, TaskPlan
from MedSeqFTLib.workspace.workspace import Workspace


def starter(workspace: Workspace, teller: Teller) -> ModelVersion:
    """The starter model that ships with MedSeqFT, as M_0 of a workspace that has no foundation model."""
    teller.message("The workspace has no foundation model yet: it begins with the MedSeqFT starter model.")
    return import_starter(workspace)


def new_foundation(
    workspace: Workspace,
    job: Job,
    task: str,
    plan: TaskPlan,
    prepared: Sequence[PreparedCase],
    settings: AdaptSettings,
    compute: Compute,
    reporter: Reporter,
) -> ModelVersion:
    """A small M_0 made from the task's own training images, said openly."""
    shared = {name: getattr(settings, name) for name in PretrainSettings.model_fields if hasattr(settings, name)}
    pretraining = PretrainSettings(**{**shared, "patch_side": max(plan.patch), "steps": settings.pretrain_steps})
    images = [case.image_sha256 for case in workspace.cases(task, Role.TRAIN)]
    reporter.message("The workspace has no foundation model yet: a small one is pre-trained first, as set.")
    identity = cache_key("foundation", pretraining, plan, images, job.seed)
    training = PretextTraining([prepared], pretraining, job.seed, plan.patch, compute, reporter, identity)
    backbone, pretext = training.foundation()
    note = (
        f"Small network, pre-trained here by masked reconstruction on the {len(prepared)} training images of "
        f"{task} for {settings.pretrain_steps} steps; a stand-in for a real foundation model."
    )
    return publish_pretrained(workspace, job.id, backbone, pretext, pretraining, note, reporter)


def reader_for(context: Context) -> PretextScorer | FeatureReader | None:
    """What the selection reads cases with; None if it looks at none of them.

    Raises:
        InputError: M_0 has no pretext head and no substitute was asked for.
    """
    if context.settings.selection == "kmeans":
        backbone = load_backbone(context.workspace, context.foundation)
        return FeatureReader(backbone=backbone, seed=context.seed, patch=context.plan.patch, compute=context.compute)
    return scorer_for(context)


def scorer_for(context: Context) -> PretextScorer | None:
    """What MDS scores cases with: M_0 and its pretext head, or a substitute head; None for the other selections.

    Raises:
        InputError: M_0 has no pretext head and no substitute was asked for.
    """
    selection, foundation = context.settings.selection, context.foundation
    if selection not in ("mds", "mds-substitute"):
        return None
    check_selection(foundation, context.settings)
    backbone = load_backbone(context.workspace, foundation)
    if selection == "mds" and foundation.pretext is not None:
        description, pretext = foundation.pretext, load_pretext(context.workspace, foundation)
    else:
        usual = MaskedReconstructionDescription().block
        description = MaskedReconstructionDescription(block=math.gcd(usual, *context.plan.patch))
        frozen(backbone, context.compute.device)
        pretext = build_pretext(description, foundation.network, context.seed).to(context.compute.device)
        training = PretrainSettings(
            network=foundation.network, batch_size=context.settings.batch_size, steps=context.settings.pretrain_steps
        )
        identity = context.identity(SUBSTITUTE, foundation.files)
        PretextTraining(
            [context.prepared],
            training,
            context.seed,
            context.plan.patch,
            context.compute,
            context.reporter,
            identity,
        ).fit(SUBSTITUTE, {"head": pretext}, backbone, pretext)
    return PretextScorer(
        backbone=backbone,
        pretext=pretext,
        description=description,
        seed=context.seed,
        patch=description.crop or context.plan.patch,
        compute=context.compute,
    )


def conditions_of(context: Context) -> SelectionConditions:
    """What a selection is recorded with."""
    return SelectionConditions(
        foundation=context.foundation.id,
        foundation_files=context.foundation.files,
        intensity=context.plan.intensity,
        spacing=context.plan.spacing,
        precision=context.compute.precision,
    )
