"""VoCo (Wu et al., CVPR 2024, arXiv:2402.17300, and arXiv:2410.09890): where does a crop lie among base crops?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cache import Index3
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.networks.swin_unetr import SwinUNETRBackbone
from MedSeqFTLib.models.pretext.base import Pretext, Seed
from MedSeqFTLib.workspace.networks import NetworkSpec, SwinUNETRDescription, VoCoDescription

EPSILON = 1e-6  # keeps logarithms finite, as in the published code


class VoCo(Pretext):
    """Predict how much random crops of an area overlap each base crop of that area, from their features alone.

    The base crops tile the area, and `queries` random crops of the same size are drawn from it. What is predicted is
    the cosine similarity of two crops' projected features, where negative means 0; what is true is the share of the
    random crop that lies in the base crop.

    Kept of the published loss: the position term and the regulariser, which asks the base crops to differ.
    Left out, because the loss of a sample may depend on its crop and its seed alone: the term between volumes, which
    compares with another case of the batch and takes the teacher's answer for the truth; the teacher and its moving
    average, which change while one looks, so the student's projection stands on both sides; the dropout of features;
    and flips, turns and shifts of intensity of single crops, which are augmentation for training.
    The published projection normalises over all crops of the batch; here it does over the crops of one sample.

    Without a projection (`width` is None, for files published without one) the features themselves, normalised in the
    same way, are compared.
    """

    def __init__(self, pretext: VoCoDescription, network: NetworkSpec) -> None:
        super().__init__()
        if not isinstance(network, SwinUNETRDescription):
            raise InputError(f"VoCo's pretext objective needs a Swin UNETR, but the network is a {network.kind}.")
        z, y, x = pretext.base
        self._base: Index3 = (x, y, z) if network.axes == "xyz-RAS" else pretext.base
        self._queries = pretext.queries
        features = 24 * network.feature_size  # of all five levels: 1 + 1 + 2 + 4 + 16
        self.student = Projection(features, pretext.width) if pretext.width else None

    def forward(self, backbone: Backbone, crops: Tensor, seeds: Sequence[Seed]) -> Tensor:
        swin = cast(SwinUNETRBackbone, backbone)  # seen through LoRA, too
        areas = swin.expected(crops)
        return torch.stack([self._loss(swin, area, seed) for area, seed in zip(areas, seeds, strict=True)])

    def _loss(self, backbone: SwinUNETRBackbone, area: Tensor, seed: Seed) -> Tensor:
        """The loss of one area [1, x, y, z]."""
        sides: Index3 = tuple(area.shape[1:])  # type: ignore[assignment]
        size, bases, randoms = positions(sides, self._base, self._queries, seed)
        truth = torch.tensor([[overlap(start, base, size) for base in bases] for start in randoms], device=area.device)
        pieces = torch.stack([_cut(area, start, size) for start in (*bases, *randoms)])
        features = torch.cat([level.float().mean((2, 3, 4)) for level in backbone.skips(pieces)], dim=1)
        projected = over_crops(features) if self.student is None else self.student(features)
        vectors = F.normalize(projected.float(), dim=1)
        of_bases, of_randoms = vectors[: len(bases)], vectors[len(bases) :]
        return position_loss((of_randoms @ of_bases.T).clamp(0, 1), truth) + alikeness(of_bases)


class Projection(nn.Module):
    """VoCo's projection: three linear layers, with normalisation over the crops and rectifiers between them."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(features, width))  # nested, since the published names are
        self.layer2 = nn.Sequential(nn.Linear(width, width))
        self.layer3 = nn.Sequential(nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        hidden = over_crops(self.layer1(features)).relu()
        return self.layer3(over_crops(self.layer2(hidden)).relu())


def over_crops(features: Tensor) -> Tensor:
    """Features [crops, channels] with mean 0 and variance 1 over the crops."""
    return F.batch_norm(features, None, None, training=True)


def positions(sides: Index3, base: Index3, queries: int, seed: Seed) -> tuple[Index3, list[Index3], list[Index3]]:
    """Voxels of a crop, where the base crops begin, and where the random crops begin, on the axes of `sides`.

    Args:
        sides: voxels of the area, each a multiple of the number of base crops along it.
        base: base crops along each axis.
        queries: how many random crops.
        seed: what their places depend on, and nothing else.
    """
    x, y, z = (side // count for side, count in zip(sides, base, strict=True))
    bases = [(i * x, j * y, k * z) for i, j, k in np.ndindex(base)]
    room = [max(1, side - length) for side, length in zip(sides, (x, y, z), strict=True)]
    starts = np.random.default_rng(seed).integers(0, room, (queries, 3)).tolist()
    return (x, y, z), bases, [(i, j, k) for i, j, k in starts]


def overlap(first: Index3, second: Index3, size: Index3) -> float:
    """The share of a crop that lies in another one of the same size, from where they begin, in 0..1."""
    shared = (max(0, length - abs(a - b)) for a, b, length in zip(first, second, size, strict=True))
    return math.prod(shared) / math.prod(size)


def position_loss(similar: Tensor, truth: Tensor) -> Tensor:
    """VoCo's loss of predicted positions, a scalar: of overlapped base crops, weighted by overlap, and of the others.

    Args:
        similar: cosine similarities in 0..1, [random crops, base crops].
        truth: shares of overlap in 0..1, same shape.
    """
    apart = (truth == 0).float()
    hit = -(truth * (1 - (truth - similar).abs() + EPSILON).log()).sum() / (truth.sum() + EPSILON)
    miss = -(apart * (1 - similar + EPSILON).log()).sum() / (apart.sum() + EPSILON)
    return hit + miss


def alikeness(bases: Tensor) -> Tensor:
    """VoCo's regulariser, a scalar: the mean squared positive cosine of every two base crops' unit vectors.

    The second of a pair gets no gradient, as in the published code.
    """
    first, second = torch.triu_indices(len(bases), len(bases), offset=1, device=bases.device)
    return (bases[first] * bases[second].detach()).sum(1).relu().square().mean()


def _cut(area: Tensor, start: Index3, size: Index3) -> Tensor:
    x, y, z = (slice(begin, begin + length) for begin, length in zip(start, size, strict=True))
    return area[:, x, y, z]
