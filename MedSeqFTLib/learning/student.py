"""The low-rank student: a frozen backbone with LoRA adapters, as far as the settings allow."""

from __future__ import annotations

from peft import PeftModel

from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.lora import attach_lora
from MedSeqFTLib.models.weights import BACKBONE
from MedSeqFTLib.workspace.schema import ModelVersion


def low_rank_student(context: Context, base: Backbone, version: ModelVersion) -> PeftModel:
    """Adapters on `base`, which is frozen and is the backbone of `version`; at first they change nothing."""
    settings = context.settings
    origin = f"{version.id} sha256:{version.files[BACKBONE]}"
    student = attach_lora(base, settings.lora_rank, settings.lora_alpha, context.seed, origin, version.lora)
    return student.to(context.compute.device)
