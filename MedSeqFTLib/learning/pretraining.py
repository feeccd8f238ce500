"""Making a foundation model: masked reconstruction on unlabelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cache import Index3, PreparedCase, cache_key
from MedSeqFTLib.imaging.sampling import in_shuffled_order, random_start
from MedSeqFTLib.learning.data import PreparedData
from MedSeqFTLib.learning.progress import Job, Reporter
from MedSeqFTLib.learning.publishing import publish_foundation, published_by
from MedSeqFTLib.learning.runtime import settle_compute
from MedSeqFTLib.learning.settings import PretrainSettings
from MedSeqFTLib.learning.training import Training
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.networks import ResidualUNet, build_backbone
from MedSeqFTLib.models.pretext import PretextHead, block_mask, build_pretext_head, reconstruction_loss
from MedSeqFTLib.workspace.workspace import Workspace

STAGE = "foundation"


def run_pretraining(workspace: Workspace, job: Job, reporter: Reporter) -> str:
    """The runner of "pretrain" jobs: pre-train on the groups of images in the settings and publish the result.

    Returns the id of the foundation version.
    """
    settings = PretrainSettings.model_validate(job.settings)
    published = published_by(workspace, job.id, "foundation")
    if published:
        return published.id
    images = [path for group in settings.groups for path in group.images]
    if not images:
        raise InputError("Pre-training needs at least one image.")
    reporter.plan([("prepare", 0.3 * len(images)), (STAGE, settings.steps)])
    compute = settle_compute(settings, reporter)
    cases = _prepare(workspace, settings, reporter, len(images))
    patch = (settings.patch_side,) * 3
    identity = cache_key("pretrain", settings, job.seed)
    backbone, head = pretrain(cases, settings, job.seed, patch, compute, reporter, identity)
    note = f"Pre-trained here by masked reconstruction on {len(cases)} unlabelled images, {settings.steps} steps."
    return publish_foundation(workspace, job.id, backbone, head, settings, note, reporter).id


def _prepare(workspace: Workspace, settings: PretrainSettings, reporter: Reporter, total: int) -> list[PreparedCase]:
    reporter.stage("prepare", total)
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        reporter.step(done)

    data = PreparedData(workspace, one_more)
    return [case for group in settings.groups for case in data.images(group)]


def pretrain(
    cases: Sequence[PreparedCase],
    settings: PretrainSettings,
    seed: int,
    patch: Index3,
    compute: Compute,
    reporter: Reporter,
    identity: str,
) -> tuple[ResidualUNet, PretextHead]:
    """M_0 and its pretext head, trained on random crops of all images alike."""
    backbone = build_backbone(settings.network, seed).to(compute.device)
    head = build_pretext_head(settings.network.features, seed).to(compute.device)

    def losses(step: int) -> Mapping[str, Tensor]:
        crops, masks = _masked_crops(cases, settings, patch, seed, step)
        with compute.autocast():
            loss = reconstruction_loss(backbone, head, crops.to(compute.device), masks.to(compute.device))
        return {"reconstruction": loss.mean()}

    Training(
        STAGE,
        {"backbone": backbone, "head": head},
        losses,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        compute=compute,
        reporter=reporter,
        checkpoint_seconds=settings.checkpoint_seconds,
        identity=identity,
    ).run()
    return backbone, head


def _masked_crops(
    cases: Sequence[PreparedCase], settings: PretrainSettings, patch: Index3, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    crops, masks = [], []
    for index in range(step * settings.batch_size, (step + 1) * settings.batch_size):
        case = cases[in_shuffled_order(index, len(cases), seed)]
        where = np.random.default_rng([seed, index, 0]).random(3)
        crop = case.image_crop(random_start(case.shape, patch, where), patch)
        crops.append(torch.from_numpy(crop)[None])
        masks.append(block_mask(patch, settings.mask_block, settings.mask_ratio, (seed, index, 2)))
    return torch.stack(crops), torch.stack(masks)
