"""Losses on segmentations, and how the losses of a step are put together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from MedSeqFTLib.imaging.sampling import Batch, PatchSampler
from MedSeqFTLib.learning.training import Losses
from MedSeqFTLib.models.backbone import Features
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import Head

_IMPOSSIBLE = 1e4  # a logit that leaves no probability


def segmentation_loss() -> nn.Module:
    """Dice plus cross-entropy on class indices [batch, 1, z, y, x]; the Dice part leaves the background out."""
    return DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)


def imitation_loss() -> nn.Module:
    """Dice plus cross-entropy on the teacher's class probabilities [batch, classes, z, y, x]."""
    return DiceCELoss(softmax=True, include_background=False, batch=True)


def with_unknown_as_background(logits: Tensor, known: Tensor) -> Tensor:
    """Logits [batch, classes, z, y, x] for references that do not speak of every class.

    An unlabelled voxel may belong to an unknown class (known [batch, classes] False): its probability is counted with
    the background's, so that finding it costs nothing.
    """
    if known.all():
        return logits
    unknown = ~known[:, :, None, None, None]
    background_or_unknown = unknown.clone()
    background_or_unknown[:, 0] = True
    background = logits.masked_fill(~background_or_unknown, -torch.inf).logsumexp(1, keepdim=True)
    rest = logits[:, 1:].masked_fill(unknown[:, 1:], -_IMPOSSIBLE)
    return torch.cat([background, rest], dim=1)


class TaskLoss:
    """Segmentation of one task's patches: Dice plus cross-entropy through the task's head.

    Strategies that want more from the same forward pass extend `beside`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: Head,
        data: PatchSampler,
        compute: Compute,
        name: str = "segmentation",
        weight: float = 1.0,
    ) -> None:
        self._backbone, self._head = backbone, head
        self._data, self._compute = data, compute
        self._name, self._weight = name, weight
        self._segmentation = segmentation_loss()

    def __call__(self, step: int) -> Mapping[str, Tensor]:
        batch = self._data.batch(step)
        image = batch.image.to(self._compute.device)
        with self._compute.autocast():
            features: Features = self._backbone(image)
            logits = self._head(features)
        return {self._name: self._weight * self._loss(logits, batch), **self.beside(image, features)}

    def beside(self, image: Tensor, features: Features) -> Mapping[str, Tensor]:
        """Further losses on the same batch and its features."""
        return {}

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        device = self._compute.device
        marginal = with_unknown_as_background(logits.float(), batch.known.to(device))
        return self._segmentation(marginal, batch.labels.to(device))


def together(*terms: Losses) -> Losses:
    """The losses of several terms, added up by whoever trains."""

    def losses(step: int) -> Mapping[str, Tensor]:
        return {name: value for term in terms for name, value in term(step).items()}

    return losses


def in_turn(*terms: Losses) -> Losses:
    """One term a step, each seeing consecutive steps of its own; without terms nothing."""

    def losses(step: int) -> Mapping[str, Tensor]:
        return terms[step % len(terms)](step // len(terms)) if terms else {}

    return losses


def affordable(terms: Sequence[Losses], costs: Sequence[int], budget: Fraction) -> Losses:
    """Terms in turn, as many as a step can afford, with more weight the rarer they are: the same pull on average.

    Each sees consecutive steps of its own. A budget of all costs or more affords every term in every step.

    Args:
        costs: of the terms, for instance in voxels.
        budget: for every step, in the same unit; what is saved is spent later.
    """
    total = sum(costs)
    budget = min(budget, Fraction(total))
    spent_before = list(accumulate(costs, initial=0))[:-1]  # in a round, by the place of a term

    def begun(money: Fraction) -> int:
        """How many terms come before so much is spent."""
        rounds, rest = divmod(money, total)
        return int(rounds) * len(terms) + bisect_left(spent_before, rest)

    def losses(step: int) -> Mapping[str, Tensor]:
        if not terms:
            return {}
        numbers = range(begun(step * budget), begun((step + 1) * budget))
        rare = float(total / budget)
        return {
            name: rare * value
            for number in numbers
            for name, value in terms[number % len(terms)](number // len(terms)).items()
        }

    return losses


def every(interval: int, term: Losses) -> Losses:
    """A term on every `interval`-th step only, seeing consecutive steps of its own, with as much weight in all."""

    def losses(step: int) -> Mapping[str, Tensor]:
        if step % interval:
            return {}
        return {name: interval * value for name, value in term(step // interval).items()}

    return losses
