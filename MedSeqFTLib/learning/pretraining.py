"""Making a foundation model: masked reconstruction on unlabelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cache import Index3, PreparedCase, cache_key
from MedSeqFTLib.imaging.sampling import in_shuffled_order, random_start
from MedSeqFTLib.learning.data import PreparedData
from MedSeqFTLib.learning.progress import Job, Reporter
from MedSeqFTLib.learning.publishing import publish_foundation, published_by
from MedSeqFTLib.learning.runtime import settle_compute
from MedSeqFTLib.learning.settings import ImageGroup, PretrainSettings
from MedSeqFTLib.learning.training import Training
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.pretext.base import Pretext
from MedSeqFTLib.workspace.workspace import Workspace

STAGE = "foundation"
Groups = Sequence[Sequence[PreparedCase]]


def run_pretraining(workspace: Workspace, job: Job, reporter: Reporter) -> str:
    """The runner of "pretrain" jobs: pre-train on the groups of images in the settings and publish the result.

    Returns the id of the foundation version.
    """
    settings = PretrainSettings.model_validate(job.settings)
    published = published_by(workspace, job.id, "foundation")
    if published:
        return published.id
    images = sum(len(group.images) if isinstance(group, ImageGroup) else group.count for group in settings.groups)
    if not images:
        raise InputError("Pre-training needs at least one image.")
    reporter.plan([("prepare", 0.3 * images), (STAGE, settings.steps)])
    compute = settle_compute(settings, reporter)
    groups = _prepare(workspace, settings, reporter, images)
    patch = (settings.patch_side,) * 3
    identity = cache_key("pretrain", settings, job.seed)
    backbone, pretext = pretrain(groups, settings, job.seed, patch, compute, reporter, identity)
    note = f"Pre-trained by masked reconstruction on {_counted(settings)}, {settings.steps} steps."
    return publish_foundation(workspace, job.id, backbone, pretext, settings, note, reporter).id


def _counted(settings: PretrainSettings) -> str:
    real = sum(len(group.images) for group in settings.groups if isinstance(group, ImageGroup))
    drawn = sum(group.count for group in settings.groups if not isinstance(group, ImageGroup))
    parts = [f"{real} unlabelled images" if real else "", f"{drawn} synthetic images" if drawn else ""]
    return " and ".join(filter(None, parts))


def _prepare(workspace: Workspace, settings: PretrainSettings, reporter: Reporter, total: int) -> Groups:
    reporter.stage("prepare", total)
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        reporter.step(done)

    data = PreparedData(workspace, one_more)
    return [data.images(group) for group in settings.groups]


def pretrain(
    groups: Groups,
    settings: PretrainSettings,
    seed: int,
    patch: Index3,
    compute: Compute,
    reporter: Reporter,
    identity: str,
) -> tuple[Backbone, Pretext]:
    """M_0 and its pretext head, trained on random crops; see `train_pretext`."""
    backbone = build_backbone(settings.network, seed).to(compute.device)
    pretext = build_pretext(settings.pretext, settings.network, seed).to(compute.device)
    modules = {"backbone": backbone, "head": pretext}
    train_pretext(STAGE, modules, backbone, pretext, groups, settings, seed, patch, compute, reporter, identity)
    return backbone, pretext


def train_pretext(
    stage: str,
    modules: Mapping[str, nn.Module],
    backbone: Backbone,
    pretext: Pretext,
    groups: Groups,
    settings: PretrainSettings,
    seed: int,
    patch: Index3,
    compute: Compute,
    reporter: Reporter,
    identity: str,
) -> None:
    """Minimise a pretext loss on random crops: every group is seen equally often, and every image within its group.

    Args:
        modules: what is trained: the backbone and the head, or the head alone.
    """

    def losses(step: int) -> Mapping[str, Tensor]:
        samples = range(step * settings.batch_size, (step + 1) * settings.batch_size)
        crops = torch.stack([_crop(groups, patch, seed, index) for index in samples]).to(compute.device)
        with compute.autocast():
            loss = pretext(backbone, crops, [(seed, index, 2) for index in samples])
        return {"reconstruction": loss.mean()}

    Training(
        stage,
        modules,
        losses,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        compute=compute,
        reporter=reporter,
        checkpoint_seconds=settings.checkpoint_seconds,
        identity=identity,
    ).run()


def _crop(groups: Groups, patch: Index3, seed: int, index: int) -> Tensor:
    """The crop [1, z, y, x] at a place of the endless sequence of crops."""
    turn, number = divmod(index, len(groups))
    group = groups[number]
    case = group[in_shuffled_order(turn, len(group), seed)]
    where = np.random.default_rng([seed, index, 0]).random(3)
    return torch.from_numpy(case.image_crop(random_start(case.shape, patch, where), patch))[None]
