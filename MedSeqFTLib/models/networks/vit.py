"""A vision transformer over 3D tokens with UNETR's convolutional decoder, as a backbone.

The encoder is that of MedCoSS (Ye et al., CVPR 2024, https://arxiv.org/abs/2311.17597), which has it from
Uni-Perceiver; the decoder is UNETR's (Hatamizadeh et al., WACV 2022), as MedCoSS uses it downstream.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from monai.networks.blocks import TransformerBlock, UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor, nn

from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.workspace.networks import ViTDescription

Grid = tuple[int, int, int]  # tokens, z, y, x


class Block(TransformerBlock):
    """MONAI's transformer block [batch, tokens, width], without the parts that are only there for cross attention."""

    def __init__(self, width: int, heads: int, epsilon: float) -> None:
        super().__init__(width, 4 * width, heads, qkv_bias=True, use_flash_attention=True)
        del self.norm_cross_attn, self.cross_attn
        del self.attn.to_q, self.attn.to_k, self.attn.to_v  # one Identity under three names
        self.norm1.eps = self.norm2.eps = epsilon


class ScaledBlock(Block):
    """A block whose two branches are scaled by channel (Touvron et al., Going deeper with image transformers, 2021)."""

    def __init__(self, width: int, heads: int, epsilon: float) -> None:
        super().__init__(width, heads, epsilon)
        self.gamma_1 = nn.Parameter(torch.full((width,), 1e-3))
        self.gamma_2 = nn.Parameter(torch.full((width,), 1e-3))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.gamma_1 * self.attn(self.norm1(x))
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class ViT(Backbone):
    """Tokens of the whole patch through all blocks, then UNETR's decoder to full resolution.

    A transformer has one resolution. `Features.encoder` therefore holds the tokens after several depths, as volumes
    [batch, width, z, y, x] on the token grid, the shallowest first; UNETR decodes the same four.
    """

    def __init__(self, network: ViTDescription) -> None:
        super().__init__(network)
        self._token, self._grid = network.token, network.grid
        self._depths = [network.depth // 4, network.depth // 2, 3 * network.depth // 4, network.depth - 1]
        self.embed = nn.Conv3d(1, network.width, network.token, network.token)
        self.embed_norm = nn.LayerNorm(network.width)
        self.positions = nn.Parameter(torch.empty(network.positions, network.width))
        self.slabs = nn.Parameter(torch.empty(network.slabs, network.width))
        self.cls_token = nn.Parameter(torch.empty(1, 1, network.width))
        self.blocks = nn.ModuleList(ScaledBlock(network.width, network.heads, 1e-5) for _ in range(network.depth))
        self.decoder = UNETRDecoder(network.width, network.decoder_features)
        for parameter in (self.positions, self.slabs, self.cls_token):
            nn.init.normal_(parameter, std=0.02)

    def read_out(self, image: Tensor) -> Features:
        encoder = self.encode(image)
        return Features(encoder, self.decoder(image, encoder))

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        grid = self.grid(image)
        states = self.hidden_states(self.tokens(image))
        return tuple(states[depth][:, 1:].transpose(1, 2).unflatten(2, grid) for depth in self._depths)

    def grid(self, image: Tensor) -> Grid:
        """Tokens z, y, x of an image [batch, 1, z, y, x]."""
        depth, height, width = (side // self._token for side in image.shape[2:])
        return depth, height, width

    def tokens(self, image: Tensor) -> Tensor:
        """Embedded tokens with their positions, normalised: [batch, tokens, width], x running fastest."""
        embedded = self.embed(image).flatten(2).transpose(1, 2)
        return self.embed_norm(embedded + self._position(self.grid(image)))

    def hidden_states(self, tokens: Tensor) -> list[Tensor]:
        """[batch, 1 + tokens, width] after each block; the class token comes first. Any subset of tokens will do."""
        x = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        states = []
        for block in self.blocks:
            x = block(x)
            states.append(x)
        return states

    def _position(self, grid: Grid) -> Tensor:
        """[tokens, width]. MedCoSS trained slab by slab; a table of its own tells the slabs of deeper patches apart."""
        plane = interpolated(self.positions[: math.prod(self._grid)], self._grid, grid)
        slabs = self.slabs[: grid[0]]
        if grid[0] > len(self.slabs):
            slabs = F.interpolate(self.slabs.T[None], grid[0], mode="linear")[0].T
        return plane + slabs.repeat_interleave(grid[1] * grid[2], dim=0)


class UNETRDecoder(nn.Module):
    """UNETR's decoder: the image and four volumes of tokens become [batch, features, z, y, x] of the image's size."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        f = features
        layout = {"spatial_dims": 3, "kernel_size": 3, "norm_name": "instance", "res_block": True}
        lift = {**layout, "stride": 1, "upsample_kernel_size": 2, "conv_block": True}
        self.stem = UnetrBasicBlock(in_channels=1, out_channels=f, stride=1, **layout)
        self.lifts = nn.ModuleList(
            UnetrPrUpBlock(in_channels=width, out_channels=channels, num_layer=doublings, **lift)
            for channels, doublings in ((2 * f, 2), (4 * f, 1), (8 * f, 0))
        )
        self.ups = nn.ModuleList(
            UnetrUpBlock(in_channels=coarse, out_channels=fine, upsample_kernel_size=2, **layout)
            for coarse, fine in ((width, 8 * f), (8 * f, 4 * f), (4 * f, 2 * f), (2 * f, f))
        )

    def forward(self, image: Tensor, states: tuple[Tensor, ...]) -> Tensor:
        skips = [self.stem(image), *(lift(state) for lift, state in zip(self.lifts, states[:-1], strict=True))]
        x = states[-1]
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)
        return x


def interpolated(table: Tensor, trained: Grid, grid: Grid) -> Tensor:
    """Learned positions [tokens of `trained`, width] for another grid of tokens: [tokens of `grid`, width]."""
    if grid == trained:
        return table
    volume = table.T.unflatten(1, trained)[None]
    return F.interpolate(volume, size=grid, mode="trilinear")[0].flatten(1).T
