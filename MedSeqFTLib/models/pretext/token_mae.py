"""Masked autoencoder over tokens (He et al., CVPR 2022, https://arxiv.org/abs/2111.06377), as in MedCoSS in 3D."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.networks.vit import Block, Grid, ViT, interpolated
from MedSeqFTLib.models.pretext.base import Pretext, Seed
from MedSeqFTLib.workspace.networks import NetworkSpec, TokenMAEDescription, ViTDescription


class TokenMAE(Pretext):
    """Mean squared error on the hidden tokens; each token's voxels are first brought to mean 0 and variance 1.

    Hidden tokens never enter the encoder. Random depth, which MedCoSS has in training, is left out.
    """

    def __init__(self, pretext: TokenMAEDescription, network: NetworkSpec) -> None:
        super().__init__()
        if not isinstance(network, ViTDescription):
            raise InputError(f"A masked autoencoder over tokens needs a vision transformer, not '{network.kind}'.")
        self._ratio, self._trained, self._token = pretext.ratio, network.grid, network.token
        self.embed = nn.Linear(network.width, pretext.width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, pretext.width))
        self.positions = nn.Parameter(torch.empty(1, 1 + math.prod(network.grid), pretext.width))
        self.blocks = nn.ModuleList(Block(pretext.width, pretext.heads, 1e-6) for _ in range(pretext.depth))
        self.norm = nn.LayerNorm(pretext.width, eps=1e-6)
        self.predict = nn.Linear(pretext.width, network.token**3)
        for parameter in (self.mask_token, self.positions):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, backbone: Backbone, crops: Tensor, seeds: Sequence[Seed]) -> Tensor:
        if not isinstance(backbone, ViT):
            raise TypeError(f"needs a ViT, got {type(backbone).__name__}")
        image = backbone.expected(crops)
        tokens, grid = backbone.tokens(image), backbone.grid(image)
        shown = torch.stack([visible_tokens(math.prod(grid), self._ratio, seed) for seed in seeds]).to(image.device)
        encoded = backbone.hidden_states(torch.gather(tokens, 1, _index(shown, tokens)))[-1]
        error = (self._decode(encoded, shown, grid).float() - self._target(image)).square().mean(-1)
        hidden = torch.ones_like(error).scatter_(1, shown, 0.0)
        return (error * hidden).sum(1) / hidden.sum(1)

    def _decode(self, encoded: Tensor, shown: Tensor, grid: Grid) -> Tensor:
        """Predicted voxels of every token [batch, tokens, voxels] from the encoded class token and visible tokens."""
        x = self.embed(encoded)
        hidden = self.mask_token.to(x.dtype).expand(len(x), math.prod(grid), -1)
        everywhere = torch.scatter(hidden, 1, _index(shown, x), x[:, 1:])
        position = torch.cat([self.positions[0, :1], interpolated(self.positions[0, 1:], self._trained, grid)])
        x = torch.cat([x[:, :1], everywhere], dim=1) + position
        for block in self.blocks:
            x = block(x)
        return self.predict(self.norm(x))[:, 1:]

    def _target(self, image: Tensor) -> Tensor:
        """The voxels of every token, normalised: float32 [batch, tokens, voxels], x running fastest."""
        voxels = image.float()[:, 0]
        for axis in (1, 2, 3):
            voxels = voxels.unfold(axis, self._token, self._token)
        voxels = voxels.flatten(4).flatten(1, 3)
        variance, mean = torch.var_mean(voxels, dim=-1, keepdim=True)
        return (voxels - mean) / (variance + 1e-6).sqrt()


def visible_tokens(count: int, ratio: float, seed: Seed) -> Tensor:
    """Indices of the tokens that stay visible, in ascending order: int64 [int((1 - ratio) * count)], but at least one.

    Args:
        count: tokens of the crop, of which at least one is hidden.
        ratio: share to hide.
        seed: what the choice depends on, and nothing else.
    """
    kept = min(max(1, int(count * (1 - ratio))), count - 1)
    return torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(count)[:kept]))


def _index(positions: Tensor, like: Tensor) -> Tensor:
    """Token indices [batch, kept] for gather and scatter along tokens of [batch, tokens, width]."""
    return positions[:, :, None].expand(-1, -1, like.shape[2])
