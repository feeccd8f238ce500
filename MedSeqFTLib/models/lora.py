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
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora.layer import Conv3d as PeftConv3d
from peft.tuners.lora.layer import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.checkpoints import one_line, write_tensors
from MedSeqFTLib.workspace.files import storage_errors

ADAPTER = "default"
_CHANGED = nn.Linear | nn.Conv3d | nn.ConvTranspose3d  # layers that LoRA changes
WEIGHTS = "adapter_model.safetensors"


class WeightSpaceConv3d(PeftConv3d):
    """Conv3d with a low-rank change of its weight: A [rank, in, z, y, x], B [out, rank, 1, 1, 1]."""

    transposed = False  # channels of the input come before those of the output in all three

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The change of the weight, in the shape of the weight. Groups are not supported."""
        a, b = self.lora_A[adapter].weight, self.scaling[adapter] * self.lora_B[adapter].weight.flatten(1)
        if self.transposed:
            a, b = a.transpose(0, 1), b.T
        change = (b @ a.flatten(1)).unflatten(1, a.shape[1:])
        return change.transpose(0, 1) if self.transposed else change

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        base = self.get_base_layer()
        if self.disable_adapters or self.merged:
            return super().forward(x, *args, **kwargs)
        weight = base.weight
        for name in self.active_adapters:
            if name in self.lora_A:
                weight = weight + self.get_delta_weight(name)  # rounded as when it is merged
        return functional_call(base, {"weight": weight}, (x, *args))


class WeightSpaceConvTranspose3d(WeightSpaceConv3d):
    """ConvTranspose3d with a low-rank change of its weight: A [in, rank, z, y, x], B [rank, out, 1, 1, 1]."""

    transposed = True

    def _get_in_out_features(self, module: nn.Module) -> tuple[int, int]:
        assert isinstance(module, nn.ConvTranspose3d)
        return module.in_channels, module.out_channels


def attach_lora(backbone: Backbone, rank: int, alpha: int, seed: int, base: str = "", layers: str = ".*") -> PeftModel:
    """Freeze the backbone and give its linear and convolution layers a trainable low-rank change, at first zero.

    A layer whose weight has a smaller full rank than `rank` gets that. The backbone is changed in place; `merge` gives
    it back.

    Args:
        base: what the adapter belongs to, kept in its configuration.
        layers: a regular expression; only layers whose whole name matches are changed.

    Raises InputError if the rank is above the full rank of every layer.
    """
    found = {n: m for n, m in backbone.named_modules() if isinstance(m, _CHANGED) and re.fullmatch(layers, n)}
    widths, targets = {name: full_rank(module) for name, module in found.items()}, list(found)
    if rank > max(widths.values(), default=0):
        raise InputError(
            f"lora_rank {rank} is more than any layer of the network can use: the widest has rank "
            f"{max(widths.values(), default=0)}. Take a smaller rank."
        )
    narrow = {name: width for name, width in widths.items() if width < rank}
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=targets,
        rank_pattern={_exactly(name): width for name, width in narrow.items()},
        alpha_pattern={_exactly(name): alpha * width / rank for name, width in narrow.items()},  # the same alpha / r
    )
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


def start_like(adapted: PeftModel, target: Backbone) -> None:
    """Let the adapters begin with the best approximation of their rank to what sets `target` apart from the base.

    The change of each layer's weight, outputs by everything else, is cut off behind its largest singular values
    (Eckart and Young, 1936); they are shared out evenly between the two factors.
    """
    wanted = {name: layer.weight for name, layer in target.named_modules() if isinstance(layer, _CHANGED)}
    with torch.no_grad():
        for name, layer in adapted.get_base_model().named_modules():
            if isinstance(layer, LoraLayer):
                _start_layer(layer, wanted[name])


def _start_layer(layer: LoraLayer, wanted: Tensor) -> None:
    a, b, base = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, layer.get_base_layer()
    transposed = isinstance(base, nn.ConvTranspose3d)
    change = (wanted - base.weight) / layer.scaling[ADAPTER]
    outputs_first = change.transpose(0, 1) if transposed else change
    u, s, v = torch.linalg.svd(outputs_first.flatten(1), full_matrices=False)
    rank = layer.r[ADAPTER]
    left, right = u[:, :rank] * s[:rank].sqrt(), s[:rank, None].sqrt() * v[:rank]
    right = right.reshape(rank, *outputs_first.shape[1:])
    a.copy_(right.transpose(0, 1) if transposed else right)
    b.copy_((left.T if transposed else left).reshape(b.shape))


def full_rank(layer: nn.Module) -> int:
    """The largest rank that a change of the layer's weight can have, as LoRA factorises it."""
    assert isinstance(layer.weight, Tensor)
    outputs = layer.weight.shape[1 if isinstance(layer, nn.ConvTranspose3d) else 0]
    return int(min(outputs, layer.weight.numel() // outputs))


def _exactly(name: str) -> str:
    """peft looks for its patterns, which are regular expressions, at the end of names."""
    return f"^{re.escape(name)}"


def merge(adapted: PeftModel) -> Backbone:
    """Add the changes to the weights for good and return the plain backbone with its own parameter names."""
    backbone: Backbone = adapted.merge_and_unload()
    return backbone


#: What peft raises at unusable configurations; it leaves out unknown keys one by one, at worst for ever.
_PEFT_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, SafetensorError)


def load_adapter(adapted: PeftModel, folder: Path) -> None:
    """Take over the changes that `save_adapter` wrote for the same base and the same rank.

    Raises:
        InputError: the adapter belongs to another base, or has another rank.
        WorkspaceError: the adapter is missing or damaged.
    """
    wanted = adapted.peft_config[ADAPTER]
    try:
        stored, tensors = PeftConfig.from_pretrained(str(folder)), load_file(folder / WEIGHTS)
    except _PEFT_ERRORS as error:
        raise WorkspaceError(f"The adapter in {folder} is missing or damaged: {one_line(error)}.") from error
    for what in ("base_model_name_or_path", "r", "lora_alpha"):
        found, needed = getattr(stored, what), getattr(wanted, what)
        if found != needed:
            raise InputError(f"The adapter in {folder} has {what} {found!r}, but {needed!r} is needed.")
    try:
        set_peft_model_state_dict(adapted, tensors, adapter_name=ADAPTER)
    except (RuntimeError, LookupError) as error:
        raise WorkspaceError(f"The adapter in {folder} does not fit the network: {one_line(error)}.") from error


def save_adapter(adapted: PeftModel, folder: Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as peft does, into a new folder. Raises StorageError."""
    with storage_errors(folder):
        folder.mkdir()
        tensors = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_tensors(plain, folder / WEIGHTS, {})
        adapted.peft_config[ADAPTER].save_pretrained(str(folder))
