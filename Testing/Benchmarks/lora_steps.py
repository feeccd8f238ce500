"""Time of a training step with LoRA, in weight space and with peft's own layers, as a multiple of full fine-tuning.

The networks take turns on the same patches. peft's own layers refuse transposed convolutions: there they are left out.

python Testing/Benchmarks/lora_steps.py [--side 64] [--rank 16] [--rounds 5] [--threads 0]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import torch
from common import in_turns, machine
from peft import LoraConfig, get_peft_model
from torch import nn

from MedSeqFTLib.learning.losses import segmentation_loss
from MedSeqFTLib.models.head import build_head
from MedSeqFTLib.models.lora import attach_lora
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.workspace.networks import (
    NetworkSpec,
    ResidualEncoderUNetDescription,
    ResidualUNetDescription,
    SegResNetDescription,
    SwinUNETRDescription,
)

NETWORKS: Mapping[str, NetworkSpec] = {
    "residual U-Net (starter)": ResidualUNetDescription(),
    "SegResNet": SegResNetDescription(),
    "ResEnc": ResidualEncoderUNetDescription(channels=(16, 32, 64, 128), blocks=(1, 2, 2, 2)),
    "Swin UNETR": SwinUNETRDescription(feature_size=24),
}
CLASSES, BATCH = 4, 2


def step(network: NetworkSpec, side: int, adapt: Callable[[nn.Module], nn.Module]) -> Callable[[], None]:
    """One step of AdamW on a fixed batch of noise."""
    model, head = adapt(build_backbone(network, 0)), build_head(network, CLASSES, 0)
    parameters = [p for module in (model, head) for p in module.parameters() if p.requires_grad]
    optimizer, loss = torch.optim.AdamW(parameters), segmentation_loss()
    image = torch.rand((BATCH, 1, side, side, side)) * 2 - 1
    labels = torch.randint(CLASSES, image.shape)

    def run() -> None:
        loss(head(model(image)).float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def peft_layers(rank: int) -> Callable[[nn.Module], nn.Module]:
    """peft as it is, without what it cannot do."""

    def adapt(backbone: nn.Module) -> nn.Module:
        kinds = nn.Linear | nn.Conv3d
        targets = [name for name, module in backbone.named_modules() if isinstance(module, kinds)]
        return get_peft_model(backbone, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets))  # type: ignore[arg-type]

    return adapt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64, help="voxels; Swin UNETR asks for a multiple of 32")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    variants: Mapping[str, Callable[[nn.Module], nn.Module]] = {
        "full fine-tuning": lambda backbone: backbone,
        "weight space": lambda backbone: attach_lora(backbone, options.rank, 2 * options.rank, 0),  # type: ignore[arg-type]
        "peft": peft_layers(options.rank),
    }
    print(f"{machine()}, rank {options.rank}, {BATCH} patches of {options.side}^3")
    print("| Network | Full fine-tuning, s | Weight space | peft |\n|---|---|---|---|")
    for name, network in NETWORKS.items():
        runs = {label: step(network, options.side, adapt) for label, adapt in variants.items()}
        in_turns(runs, 1)  # warm-up
        seconds = in_turns(runs, options.rounds)
        full = seconds["full fine-tuning"]
        print(f"| {name} | {full:.2f} | {seconds['weight space'] / full:.2f} | {seconds['peft'] / full:.2f} |")


if __name__ == "__main__":
    main()
