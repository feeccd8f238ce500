"""Which network and which pretext objective a model has, as data: the arguments that build them again.

Free of torch. MedSeqFTLib.models.networks and MedSeqFTLib.models.pretext build what is described here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

#: A description may come from a stranger: no network that there is has more channels, layers or stages.
_WIDEST = 16_384
Positive = Annotated[int, Field(ge=1, le=_WIDEST)]
Depth = Annotated[int, Field(ge=1, le=128)]  # layers
Stages = Field(max_length=16)
Side = Annotated[int, Field(ge=2, le=512)]  # voxels
Patch = tuple[Side, Side, Side]
Step = tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]]  # how many times coarser a stage is, along the network's axes


class Description(BaseModel):
    """A piece of a document; see MedSeqFTLib.workspace.schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NetworkDescription(Description, ABC):
    """What all networks declare.

    Attributes:
        values: what the lowest and the highest prepared intensity become at the network's input.
        axes: the order and the directions of the volume's axes that the weights were trained with. Ours are z, y, x
            towards superior, posterior and left; MONAI's published models take x, y, z towards right, anterior and
            superior.
    """

    values: tuple[float, float] = (-1.0, 1.0)
    axes: Literal["zyx-LPS", "xyz-RAS"] = "zyx-LPS"

    @property
    @abstractmethod
    def stride(self) -> int:
        """Voxels of which a side of a patch must be a multiple."""

    @property
    @abstractmethod
    def features(self) -> int:
        """Channels of the decoder's features, on which heads work."""


class ResidualUNetDescription(NetworkDescription):
    """MONAI's residual U-Net."""

    kind: Literal["residual-unet"] = "residual-unet"
    channels: Annotated[tuple[Positive, ...], Stages] = (16, 32, 64, 128)
    decoder_features: Positive = 8

    @property
    def stride(self) -> int:
        return int(2 ** (len(self.channels) - 1))

    @property
    def features(self) -> int:
        return self.decoder_features


class SwinUNETRDescription(NetworkDescription):
    """MONAI's Swin UNETR. `merging`: "legacy" computes what MONAI up to 1.4 computed with the same weights."""

    kind: Literal["swin-unetr"] = "swin-unetr"
    feature_size: Annotated[int, Field(ge=12, le=_WIDEST, multiple_of=12)] = 48
    depths: tuple[Depth, Depth, Depth, Depth] = (2, 2, 2, 2)
    heads: tuple[Positive, Positive, Positive, Positive] = (3, 6, 12, 24)
    merging: Literal["legacy", "current"] = "current"
    residual_stages: bool = False  # a convolution at the start of each stage: MONAI's use_v2

    @property
    def stride(self) -> int:
        return 32

    @property
    def features(self) -> int:
        return self.feature_size


class SegResNetDescription(NetworkDescription):
    """MONAI's SegResNet."""

    kind: Literal["segresnet"] = "segresnet"
    filters: Annotated[int, Field(ge=8, le=_WIDEST, multiple_of=8)] = 16  # eight groups are normalised
    blocks_down: Annotated[tuple[Depth, ...], Stages] = (1, 2, 2, 4)
    blocks_up: Annotated[tuple[Depth, ...], Stages] = (1, 1, 1)

    @model_validator(mode="after")
    def _decoder_reaches_the_input(self) -> Self:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(f"{len(self.blocks_down)} levels need {len(self.blocks_down) - 1} steps up")
        return self

    @property
    def stride(self) -> int:
        return int(2 ** (len(self.blocks_down) - 1))

    @property
    def features(self) -> int:
        return self.filters


class GenesisUNetDescription(NetworkDescription):
    """The 3D U-Net of Models Genesis, which SuPreM took over."""

    kind: Literal["genesis-unet"] = "genesis-unet"
    base: Positive = 32  # channels of the first convolution; the first level has twice as many

    @property
    def stride(self) -> int:
        return 8

    @property
    def features(self) -> int:
        return 2 * self.base


class STUNetDescription(NetworkDescription):
    """STU-Net: a residual encoder and decoder of scalable width and depth."""

    kind: Literal["stu-net"] = "stu-net"
    channels: Annotated[tuple[Positive, ...], Stages] = (32, 64, 128, 256, 512, 512)
    depth: Depth = 1  # residual blocks a stage
    # The published plan; it halves z and y four times, x five.
    steps: Annotated[tuple[Step, ...], Stages] = (*((2, 2, 2),) * 4, (1, 1, 2))

    @model_validator(mode="after")
    def _a_step_between_stages(self) -> Self:
        if len(self.steps) != len(self.channels) - 1:
            raise ValueError(f"{len(self.channels)} stages need {len(self.channels) - 1} steps")
        return self

    @property
    def stride(self) -> int:
        return max(prod(axis) for axis in zip(*self.steps, strict=True))

    @property
    def features(self) -> int:
        return self.channels[0]


class ResidualEncoderUNetDescription(NetworkDescription):
    """nnU-Net's residual encoder U-Net."""

    kind: Literal["residual-encoder-unet"] = "residual-encoder-unet"
    channels: Annotated[tuple[Positive, ...], Stages] = (32, 64, 128, 256, 320, 320)
    blocks: Annotated[tuple[Depth, ...], Stages] = (1, 3, 4, 6, 6, 6)

    @property
    def stride(self) -> int:
        return int(2 ** (len(self.channels) - 1))

    @property
    def features(self) -> int:
        return self.channels[0]


class ViTDescription(NetworkDescription):
    """A vision transformer over 3D tokens, with UNETR's convolutional decoder.

    Attributes:
        token: voxels a side. UNETR's decoder doubles the resolution four times.
        grid: tokens, z, y, x, that the learned positions were trained on; other grids interpolate them.
        positions: rows of the learned table, of which those of the grid come first.
        slabs: rows of a second table, one for each layer of tokens along z.
    """

    kind: Literal["vit"] = "vit"
    token: Literal[16] = 16
    width: Positive = 768
    depth: Depth = 12
    heads: Positive = 12
    decoder_features: Positive = 16
    grid: tuple[Positive, Positive, Positive] = (1, 12, 12)
    positions: Positive = 4096
    slabs: Positive = 8

    @property
    def stride(self) -> int:
        return self.token

    @property
    def features(self) -> int:
        return self.decoder_features


NetworkSpec = Annotated[
    ResidualUNetDescription
    | SwinUNETRDescription
    | SegResNetDescription
    | GenesisUNetDescription
    | STUNetDescription
    | ResidualEncoderUNetDescription
    | ViTDescription,
    Field(discriminator="kind"),
]


class PretextDescription(Description):
    """What all pretext objectives declare. `crop`: voxels z, y, x that one pass sees; None: the task's patch."""

    crop: Patch | None = None

    @property
    def unit(self) -> int:
        """Voxels of which a side of a crop must be a multiple."""
        return 1


class MaskedReconstructionDescription(PretextDescription):
    """Reconstruct hidden blocks; mean squared error on the hidden voxels."""

    kind: Literal["masked-reconstruction"] = "masked-reconstruction"
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.6
    block: Annotated[int, Field(ge=2, le=64)] = 8  # voxels a side
    fill: Literal["visible-mean", "zero"] = "visible-mean"  # of hidden voxels, in the network's own values
    activation: bool = True  # a learned rectifier before the last convolution

    @property
    def unit(self) -> int:
        return self.block


class SwinPretextDescription(PretextDescription):
    """Swin UNETR's pre-training: rotation class, contrastive agreement of two views, and inpainting."""

    kind: Literal["swin-ssl"] = "swin-ssl"
    crop: Patch = (96, 96, 96)  # a cube, since views are turned by quarter turns
    embedding: Positive = 512
    temperature: Annotated[float, Field(gt=0)] = 0.5
    partners: Annotated[int, Field(ge=1, le=64)] = 2  # fixed images that the contrastive term tells a crop from
    cut_out: Annotated[float, Field(gt=0, lt=1)] = 0.3  # largest share of the volume that removed blocks take

    @field_validator("crop")
    @classmethod
    def _is_a_cube(cls, crop: Patch) -> Patch:
        if len(set(crop)) > 1 or crop[0] % 32:
            raise ValueError(f"the crop is a cube with sides of a multiple of 32 voxels, got {crop}")
        return crop


class VoCoDescription(PretextDescription):
    """VoCo: where does a crop lie among base crops of the same area? `crop` is that area."""

    kind: Literal["voco"] = "voco"
    crop: Patch = (64, 192, 192)
    width: Positive | None = 1024  # of the projection; None: features are compared as they are
    base: tuple[Positive, Positive, Positive] = (1, 3, 3)  # base crops, z, y, x
    queries: Positive = 2  # random crops an area

    @model_validator(mode="after")
    def _base_crops_fill_the_area(self) -> Self:
        if any(side % (32 * count) for side, count in zip(self.crop, self.base, strict=True)):
            raise ValueError(f"base crops with sides of a multiple of 32 voxels fill the crop, got {self.crop}")
        if prod(self.base) < 2:
            raise ValueError("there are at least two base crops")
        return self


class TokenMAEDescription(PretextDescription):
    """Masked autoencoder over tokens: hidden tokens never enter the encoder; normalised values are predicted."""

    kind: Literal["token-mae"] = "token-mae"
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    width: Positive = 512  # of the decoder of tokens; depth and heads too
    depth: Depth = 8
    heads: Positive = 16


PretextSpec = Annotated[
    MaskedReconstructionDescription | SwinPretextDescription | VoCoDescription | TokenMAEDescription,
    Field(discriminator="kind"),
]
