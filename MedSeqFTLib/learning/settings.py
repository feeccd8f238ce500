"""What a user may choose about an adaptation. Torch-free, for the window and the command line.

Which of these come from the paper and which are our own choices is told in docs/method.md: all defaults here are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.files import explain
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription, NetworkSpec, ResidualUNetDescription
from MedSeqFTLib.workspace.schema import Intensity, Modality, Vector3

Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
PatchSide = Annotated[int, Field(ge=16, le=256, multiple_of=16)]  # voxels


class Settings(BaseModel):
    """Settings that every kind of training shares."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    threads: Annotated[int, Field(ge=0, le=256)] = 0  # CPU threads; 0: all cores
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    batch_size: Annotated[int, Field(ge=1, le=64)] = 2
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-4
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 30.0


class ImageGroup(BaseModel):
    """Unlabelled images of one kind. `spacing` (x, y, z in mm): None takes the median of the images."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    images: Annotated[tuple[str, ...], Field(min_length=1)]
    intensity: Intensity
    spacing: Vector3 | None = None


class SyntheticGroup(BaseModel):
    """Images that are drawn at random (MedSeqFTLib.imaging.synthetic), numbers `seed` to `seed + count - 1`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    modality: Modality
    count: Annotated[int, Field(ge=1, le=100_000)]
    side: Annotated[int, Field(ge=32, le=256)] = 80  # voxels
    seed: Annotated[int, Field(ge=0)] = 0


class PretrainSettings(Settings):
    """Masked reconstruction on unlabelled images: makes the foundation model M0 with its pretext head."""

    network: NetworkSpec = ResidualUNetDescription()
    pretext: MaskedReconstructionDescription = MaskedReconstructionDescription()
    groups: tuple[ImageGroup | SyntheticGroup, ...] = ()
    patch_side: PatchSide = 48
    steps: Steps = 300
    learning_rate: Rate = 2e-3

    @model_validator(mode="after")
    def _units_fill_the_patch(self) -> PretrainSettings:
        for what, unit in (("the pretext objective's block", self.pretext.unit), ("the stride", self.network.stride)):
            if self.patch_side % unit:
                raise ValueError(f"patch_side {self.patch_side} must be a multiple of {what}, {unit} voxels")
        return self


class AdaptSettings(Settings):
    """One adaptation: MDS selection, stage A (knowledge), stage B (generalization)."""

    stage_a_steps: Steps = 700
    stage_a_learning_rate: Rate = 5e-3
    stage_a_teacher: Literal["parent", "foundation", "none"] = "parent"
    feature_weight: Annotated[float, Field(ge=0)] = 0.05  # lambda_feature of stage A
    feature_interval: Annotated[int, Field(ge=1, le=1000)] = 4  # every so many steps, with as many times the weight
    stage_b_steps: Steps = 175
    stage_b_learning_rate: Rate = 5e-3
    stage_b_base: Literal["parent", "foundation"] = "parent"  # foundation: M_0 with the adapters of all stages so far
    stage_b_start: Literal["stage A", "nothing"] = "stage A"  # the adapters begin with stage A's change, cut to rank
    stage_b_data: Literal["buffers and task", "task", "buffers"] = "buffers and task"
    stage_b_bank: Annotated[int, Field(ge=0, le=10_000)] = 0  # batches whose targets are kept; 0: always new batches
    buffers: Literal["all tasks", "this task"] = "all tasks"  # this task: no case of an earlier task is kept
    served_by: Literal["stage A", "stage B"] = "stage A"  # which model segments the task: F_t, or M_t with h_t
    distil: Literal["features and logits", "features", "logits"] = "features and logits"
    distil_earlier_tasks: bool = True
    earlier_teacher: Literal["own models", "parent"] = "own models"  # each earlier task's F_i, or M_{t-1}
    earlier_weight: Annotated[float, Field(ge=0)] = 1.0  # of imitating earlier tasks' teachers, in stage B
    #: Voxels of earlier tasks in a step of stage B, in multiples of the task's own; 0: every task in every step.
    earlier_volume: Annotated[float, Field(ge=0, le=1000)] = 1.25
    lora_rank: Annotated[int, Field(ge=1, le=256)] = 16
    lora_alpha: Annotated[int, Field(ge=1, le=512)] = 32
    foundation: Literal["starter", "new"] = "starter"  # M0, where the workspace has none yet
    preparation: Literal["foundation", "task"] = "foundation"  # whose intensity rule, if the foundation model has one
    spacing: Literal["task", "foundation"] = "task"  # whose voxel size, if the foundation model has one
    patch_side: Annotated[int, Field(ge=0, le=256, multiple_of=16)] = 0  # voxels; 0: as the foundation model's
    selection: Literal["mds", "mds-substitute", "kmeans", "random", "all", "none"] = "mds"
    buffer_size: Annotated[int, Field(ge=0)] = 0  # K; 0: by share and minimum. "all" and "none" need no K
    buffer_share: Share = 0.1  # K as a share of the task's training cases ...
    buffer_minimum: Annotated[int, Field(ge=1)] = 2  # ... but at least so many
    selection_estimator: Literal["racing", "fixed"] = "racing"
    selection_passes: Annotated[int, Field(ge=1, le=100_000)] = 200  # over each case; racing: at most
    selection_z: Annotated[float, Field(ge=0, le=10)] = 2.5  # how sure a case must be: normal standard errors
    cross_validation: Annotated[int, Field(ge=0, le=10)] = 0  # folds, where fewer than five cases are held out; 0: none
    pretrain_steps: Steps = 200  # of a new foundation model, or of a substitute for a missing pretext head
    augment: bool = True
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5  # of neighbouring prediction windows

    @field_validator("cross_validation")
    @classmethod
    def _one_fold_is_none(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("cross-validation needs at least 2 folds, or 0 for none")
        return folds


class StrategySettings(AdaptSettings):
    """What the strategies that MedSeqFT is compared with need besides; tuned on a split of training cases."""

    lwf_weight: Annotated[float, Field(ge=0)] = 1.0
    lwf_temperature: Annotated[float, Field(gt=0)] = 2.0
    ewc_weight: Annotated[float, Field(ge=0)] = 0.1
    ewc_patches: Annotated[int, Field(ge=1)] = 64  # whose gradients tell how important a weight is
    replay_weight: Annotated[float, Field(ge=0)] = 1.0
    lora_rate: Rate = 1e-2
    probe_rate: Rate = 1e-2

    @classmethod
    def of(cls, settings: AdaptSettings) -> StrategySettings:
        """The settings themselves, or with the defaults of this class where they say nothing."""
        return settings if isinstance(settings, cls) else cls(**settings.model_dump())


S = TypeVar("S", bound=BaseModel)


def of_job(kind: type[S], values: Mapping[str, object]) -> S:
    """The settings that a job was started with.

    Raises:
        InputError: another version of MedSeqFT started it, and this one knows other settings.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(
            f"This job was started by another version of MedSeqFT, whose settings cannot be used: {explain(error)}. "
            "Start a new job."
        ) from error


PRESETS: dict[str, dict[str, int]] = {
    "quick": {"stage_a_steps": 100, "stage_b_steps": 25, "pretrain_steps": 100, "selection_passes": 25},
    "balanced": {},
    "thorough": {
        "stage_a_steps": 1500,
        "stage_b_steps": 375,
        "pretrain_steps": 1000,
        "selection_passes": 1000,
        "cross_validation": 3,
        "earlier_volume": 0,
    },
}


def adapt_settings(preset: str, changes: dict[str, str]) -> AdaptSettings:
    """A preset with some values changed.

    Raises:
        InputError: an unknown preset or setting, or a value out of its range.
    """
    if preset not in PRESETS:
        raise InputError(f"Unknown preset '{preset}': expected one of {', '.join(PRESETS)}.")
    try:
        return AdaptSettings.model_validate({**PRESETS[preset], **changes})
    except ValidationError as error:
        known = ", ".join(AdaptSettings.model_fields)
        raise InputError(f"Setting not usable: {explain(error)}. Settings are: {known}.") from error
