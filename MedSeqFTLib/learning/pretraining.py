"""Making a foundation model: masked reconstruction on unlabelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cache import Index3, PreparedCase, cache_key
from MedSeqFTLib.imaging.sampling import in_shuffled_order, random_start
from MedSeqFTLib.learning.data import PreparedData
from MedSeqFTLib.learning.forecast import FOUNDATION
from MedSeqFTLib.learning.progress import Job, Reporter
from MedSeqFTLib.learning.publishing import publish_pretrained, published_by
from MedSeqFTLib.learning.runtime import right_compute, settle_compute
from MedSeqFTLib.learning.settings import ImageGroup, PretrainSettings, of_job
from MedSeqFTLib.learning.training import Training
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.pretext.base import Pretext
from MedSeqFTLib.workspace.workspace import Workspace

Groups = Sequence[Sequence[PreparedCase]]


def run_pretraining(workspace: Workspace, job: Job, reporter: Reporter) -> str:
    """The runner of "pretrain" jobs: pre-train on the groups of images in the settings and publish the result.

    Returns the id of the foundation version.
    """
    settings = of_job(PretrainSettings, job.settings)
    published = published_by(workspace, job.id, "foundation")
    if published:
        return published.id
    images = sum(len(group.images) if isinstance(group, ImageGroup) else group.count for group in settings.groups)
    if not images:
        raise InputError("Pre-training needs at least one image.")
    reporter.plan([("prepare", 0.3 * images), (FOUNDATION, settings.steps)])
    compute = settle_compute(settings, reporter.folder, reporter)
    groups = _prepare(workspace, settings, reporter, images)
    patch = (settings.patch_side,) * 3
    identity = cache_key("pretrain", settings, job.seed)
    backbone, pretext = PretextTraining(groups, settings, job.seed, patch, compute, reporter, identity).foundation()
    note = f"Pre-trained by masked reconstruction on {_counted(settings)}, {settings.steps} steps."
    return publish_pretrained(workspace, job.id, backbone, pretext, settings, note, reporter).id


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


@dataclass(frozen=True)
class PretextTraining:
    """Minimises a pretext loss on random crops: every group is seen equally often, and every image within its group.

    Attributes:
        patch: voxels of a crop, z, y, x.
        identity: everything that the run depends on, for its checkpoints.
    """

    groups: Groups
    settings: PretrainSettings
    seed: int
    patch: Index3
    compute: Compute
    reporter: Reporter
    identity: str

    def foundation(self) -> tuple[Backbone, Pretext]:
        """M_0 and its pretext head, trained from random weights."""
        network, device = self.settings.network, self.compute.device
        backbone = build_backbone(network, self.seed).to(device)
        pretext = build_pretext(self.settings.pretext, network, self.seed).to(device)
        self.fit(FOUNDATION, {"backbone": backbone, "head": pretext}, backbone, pretext)
        return backbone, pretext

    def fit(self, stage: str, modules: Mapping[str, nn.Module], backbone: Backbone, pretext: Pretext) -> None:
        """Train `modules`: the backbone and the head, or the head alone."""
        settings = self.settings
        compute = right_compute(self.compute, settings.network, [self.patch], self.reporter)
        Training(
            stage,
            modules,
            partial(self._losses, backbone, pretext, compute),
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            compute=compute,
            reporter=self.reporter,
            checkpoint_seconds=settings.checkpoint_seconds,
            identity=self.identity,
        ).run()

    def _losses(self, backbone: Backbone, pretext: Pretext, compute: Compute, step: int) -> Mapping[str, Tensor]:
        size = self.settings.batch_size
        samples = range(step * size, (step + 1) * size)
        crops = torch.stack([self._crop(index) for index in samples]).to(compute.device)
        with compute.autocast():
            loss = pretext(backbone, crops, [(self.seed, index, 2) for index in samples])
        return {"reconstruction": loss.mean()}

    def _crop(self, index: int) -> Tensor:
        """The crop [1, z, y, x] at a place of the endless sequence of crops."""
        turn, number = divmod(index, len(self.groups))
        group = self.groups[number]
        case = group[in_shuffled_order(turn, len(group), self.seed)]
        where = np.random.default_rng([self.seed, index, 0]).random(3)
        return torch.from_numpy(case.image_crop(random_start(case.shape, self.patch, where), self.patch))[None]
