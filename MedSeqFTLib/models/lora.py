"""LoRA: peft's adapters and file format, with 3D convolution layers that work in weight space.

peft's own Conv3d layer runs a second convolution beside the first one (slower than full fine-tuning on 3D networks) and
cannot merge pointwise kernels; ConvTranspose3d it refuses. Here the low-rank change is added to the weight before one
convolution. Parameter names and shapes are peft's, so the adapter files are, too. Low rank in weight space:
W' = W + (alpha / r) * B A, Hu et al., LoRA (2021), equation 3.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora.layer import Conv3d as PeftConv3d
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from torch.func import functional_call

from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.checkpoints import write_tensors
from MedSeqFTLib.workspace.files import storage_errors

ADAPTER = "default"
WEIGHTS = "adapter_model.safetensors"


class WeightSpaceConv3d(PeftConv3d):
    """Conv3d with a low-rank change of its weight: A [rank, in, z, y, x], B [out, rank, 1, 1, 1]."""

    equation = "rizyx,or->oizyx"

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The change of the weight, in the shape of the weight. Groups are not supported."""
        a, b = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        return torch.einsum(self.equation, a, b.flatten(1)) * self.scaling[adapter]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        base = self.get_base_layer()
        if self.disable_adapters or self.merged:
            return super().forward(x, *args, **kwargs)
        changes = [self.get_delta_weight(name) for name in self.active_adapters if name in self.lora_A]
        weight = torch.stack([base.weight, *changes]).sum(0)
        return functional_call(base, {"weight": weight}, (x, *args))


class WeightSpaceConvTranspose3d(WeightSpaceConv3d):
    """ConvTranspose3d with a low-rank change of its weight: A [in, rank, z, y, x], B [rank, out, 1, 1, 1]."""

    equation = "irzyx,ro->iozyx"

    def _get_in_out_features(self, module: nn.Module) -> tuple[int, int]:
        assert isinstance(module, nn.ConvTranspose3d)
        return module.in_channels, module.out_channels


def attach_lora(backbone: Backbone, rank: int, alpha: int, seed: int, base: str = "", layers: str = ".*") -> PeftModel:
    """Freeze the backbone and give its linear and convolution layers a trainable low-rank change, at first zero.

    The backbone is changed in place; `merge` gives it back.

    Args:
        base: what the adapter belongs to, kept in its configuration.
        layers: a regular expression; only layers whose whole name matches are changed.
    """
    kinds = nn.Linear | nn.Conv3d | nn.ConvTranspose3d
    targets = [n for n, module in backbone.named_modules() if isinstance(module, kinds) and re.fullmatch(layers, n)]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
    config._register_custom_module(
        {nn.Conv3d: WeightSpaceConv3d, nn.ConvTranspose3d: WeightSpaceConvTranspose3d}  # peft's own hook
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(backbone, config, adapter_name=ADAPTER)
    adapted.peft_config[ADAPTER].base_model_name_or_path = base  # only now: peft expects a name of its own here
    reached = [module for module in adapted.modules() if isinstance(module, LoraLayer)]
    if len(reached) != len(targets):
        raise RuntimeError(f"LoRA reached {len(reached)} of {len(targets)} layers")
    return adapted


def merge(adapted: PeftModel) -> Backbone:
    """Add the changes to the weights for good and return the plain backbone with its own parameter names."""
    backbone: Backbone = adapted.merge_and_unload()
    return backbone


def save_adapter(adapted: PeftModel, folder: Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as peft does, into a new folder. Raises StorageError."""
    with storage_errors(folder):
        folder.mkdir()
        tensors = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_tensors(plain, folder / WEIGHTS, {})
        adapted.peft_config[ADAPTER].save_pretrained(str(folder))
