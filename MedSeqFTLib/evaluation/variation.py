"""How far adaptation moved the parameters of a network, where, and in how many dimensions.

Of a layer: ||theta_t - theta_0|| / ||theta_0|| (Frobenius norms) over its weight and bias; of a block: the same over
all its layers. Of the change of a weight, flattened to [out, rest]: the numerical rank, and the effective rank exp(H),
where H is the entropy of the singular values divided by their sum (Roy and Vetterli, *The effective rank*, EUSIPCO
2007).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.filters import by_filter

#: Singular values above this share of the largest one count. Weights are stored in float32: where they moved by a
#: hundredth, rounding alone leaves singular values of about a hundred-thousandth.
TOLERANCE = 1e-3

#: MONAI's residual U-Net is nested: each level holds the next one as 1.submodule, between its ways down (0) and up (2).
_NESTED = re.compile(r"unet\.model\.((?:1\.submodule\.)*)([02]\.)?")
_NUMBERED = re.compile(r".*?\d(?=\.|$)")


@dataclass(frozen=True)
class Rank:
    """Of the change of one weight: `numerical` and `effective` of at most `full`."""

    full: int
    numerical: int
    effective: float


@dataclass(frozen=True)
class LayerVariation:
    """How one layer changed. `change` and `reference` are norms; `rank` is None where there is no weight matrix."""

    layer: str
    block: str
    parameters: int
    change: float
    reference: float
    rank: Rank | None

    @property
    def relative(self) -> float | None:
        """None: what was zero has no relative change."""
        return self.change / self.reference if self.reference else None


@dataclass(frozen=True)
class BlockVariation:
    """How the layers of a block changed together.

    `rank_share` and `effective_rank_share`: mean over its weights of the rank as a share of the full one.
    """

    block: str
    parameters: int
    relative: float | None
    rank_share: float | None
    effective_rank_share: float | None


@dataclass(frozen=True)
class Variation:
    """How one model changed, layer by layer in the network's order. `tolerance`: of the numerical ranks."""

    tolerance: float
    layers: tuple[LayerVariation, ...]

    @property
    def whole(self) -> BlockVariation:
        """The whole network as one block."""
        return _summed("all", self.layers)

    @property
    def blocks(self) -> tuple[BlockVariation, ...]:
        """In the network's order."""
        names = dict.fromkeys(layer.block for layer in self.layers)
        return tuple(_summed(name, [layer for layer in self.layers if layer.block == name]) for name in names)


def measure_variation(
    weights: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    transposed: Collection[str] = (),
    tolerance: float = TOLERANCE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Variation:
    """Compare two state dicts of the same network. Tables of whole numbers are left out.

    Args:
        weights: theta_t.
        reference: theta_0.
        transposed: names of weights [in, out, ...] (see evaluation.filters.transposed_weights).
        tolerance: of the numerical rank, as a share of the largest singular value.
        progress: called with layers done and layers in all; it may raise to cancel.

    Raises:
        InputError: the state dicts differ in names or shapes, or hold values that are not finite.
    """
    _refuse_other_network(weights, reference)
    layers: dict[str, list[str]] = {}
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            layers.setdefault(_layer_of(name), []).append(name)
    found = []
    for done, (layer, names) in enumerate(layers.items(), start=1):
        found.append(_layer_variation(layer, names, weights, reference, transposed, tolerance))
        progress(done, len(layers))
    return Variation(tolerance, tuple(found))


def block_of(layer: str) -> str:
    """The block of a layer: the leading components of its name up to the first that ends in a digit.

    `unetr.swinViT.layers1.0.blocks.0.attn.qkv` belongs to `unetr.swinViT.layers1`. Where no component does, the block
    is what holds the layer. The nested levels of MONAI's residual U-Net are `down 1`, `down 2`, ..., `bottom 4`, ...,
    `up 1`.
    """
    if nested := _NESTED.match(layer):
        way = {"0.": "down", "2.": "up"}.get(nested[2], "bottom")
        return f"{way} {nested[1].count('submodule') + 1}"
    numbered = _NUMBERED.match(layer)
    return numbered[0] if numbered else layer.rpartition(".")[0] or layer


def _refuse_other_network(weights: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> None:
    if lonely := sorted(weights.keys() ^ reference.keys()):
        raise InputError(f"Parameter variation needs two models of one network: only one of them has {lonely[0]}.")
    for name, tensor in weights.items():
        shapes = tuple(tensor.shape), tuple(reference[name].shape)
        if shapes[0] != shapes[1]:
            raise InputError(
                f"Parameter variation needs two models of one network: {name} is {shapes[0]} in one and {shapes[1]} in "
                "the other."
            )


def _layer_of(name: str) -> str:
    """A module's `weight` and `bias` make one layer; any other parameter stands alone."""
    module, _, last = name.rpartition(".")
    return module if last in ("weight", "bias") else name


def _layer_variation(
    layer: str,
    names: Iterable[str],
    weights: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    transposed: Collection[str],
    tolerance: float,
) -> LayerVariation:
    old = {name: reference[name].detach().double() for name in names}
    change = {name: weights[name].detach().double() - tensor for name, tensor in old.items()}
    for name, tensor in change.items():
        if not tensor.isfinite().all():
            raise InputError(f"Parameter variation: {name} holds values that are not finite.")
    weight = f"{layer}.weight".removeprefix(".")
    has_rank = weight in change and change[weight].ndim > 1
    return LayerVariation(
        layer=layer,
        block=block_of(layer),
        parameters=sum(tensor.numel() for tensor in old.values()),
        change=_norm(change.values()),
        reference=_norm(old.values()),
        rank=rank_of(by_filter(change[weight], weight in transposed), tolerance) if has_rank else None,
    )


def _norm(tensors: Iterable[Tensor]) -> float:
    return float(torch.linalg.vector_norm(torch.cat([tensor.flatten() for tensor in tensors])))


def rank_of(matrix: Tensor, tolerance: float = TOLERANCE) -> Rank:
    """Ranks of a matrix [rows, columns]; both are 0 for a matrix of zeros."""
    values = torch.linalg.svdvals(matrix)
    full, largest = len(values), values.max()
    if largest == 0:
        return Rank(full, 0, 0.0)
    shares = values / values.sum()
    entropy = torch.special.entr(shares).sum()
    return Rank(full, int((values > tolerance * largest).sum()), float(entropy.exp()))


def _summed(block: str, layers: Collection[LayerVariation]) -> BlockVariation:
    change, reference = (
        sum(norm**2 for norm in norms) ** 0.5
        for norms in ((layer.change for layer in layers), (layer.reference for layer in layers))
    )
    ranks = [layer.rank for layer in layers if layer.rank]
    return BlockVariation(
        block=block,
        parameters=sum(layer.parameters for layer in layers),
        relative=change / reference if reference else None,
        rank_share=_mean([rank.numerical / rank.full for rank in ranks]),
        effective_rank_share=_mean([rank.effective / rank.full for rank in ranks]),
    )


def _mean(values: Collection[float]) -> float | None:
    return sum(values) / len(values) if values else None
