"""Sliding-window prediction against monai.inferers.sliding_window_inference: same windows, blending and network.

python Testing/Benchmarks/sliding_window.py [--side 256 256 128]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import common
import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from MedSeqFTLib.imaging.sliding_window import predict_classes
from MedSeqFTLib.models.head import build_head
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.workspace.networks import ResidualUNetDescription

CLASSES, PATCH = 14, (96, 96, 96)


class Real(nn.Module):
    """The product's default network."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = (
            build_backbone(ResidualUNetDescription(), 0),
            build_head(ResidualUNetDescription(), CLASSES, 0),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image))


class Ready(nn.Module):
    """Costs nothing: what remains is the overhead of the sliding window."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = torch.randn((1, CLASSES, *PATCH), generator=torch.Generator().manual_seed(0))

    def forward(self, image: Tensor) -> Tensor:
        return self.scores


def ours(network: nn.Module, image: np.ndarray) -> np.ndarray:
    return predict_classes(network, image, PATCH)


def monai(network: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        scores = sliding_window_inference(torch.from_numpy(image)[None, None], PATCH, 1, network, 0.5, mode="gaussian")
        return scores[0].argmax(0).to(torch.uint8).numpy()


def prepare(method: str, network: str, shape: tuple[int, int, int]) -> Callable[[], Any]:
    """For a process of its own: everything but the prediction itself."""
    torch.set_num_threads(2)
    net = {"real": Real, "ready": Ready}[network]().eval()
    image = common.smooth_scan(shape).astype(np.float32) / 2000
    run = {"ours": ours, "monai": monai}[method]
    run(net, image[:96, :96, :96].copy())
    return lambda: run(net, image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, nargs=3, default=(256, 256, 128), metavar=("Z", "Y", "X"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    shape = tuple(options.side)
    print(f"{common.machine()}; volume {shape}, {CLASSES} classes, windows of {PATCH}, overlap 0.5, gaussian")
    real, ready = Real().eval(), Ready().eval()
    image = common.smooth_scan(shape).astype(np.float32) / 2000
    agree = np.mean(ours(real, image) == monai(real, image))
    seconds = common.in_turns(
        {
            f"{m.__name__} {n}": lambda m=m, net=net: m(net, image)
            for n, net in (("real", real), ("ready", ready))
            for m in (ours, monai)
        },
        options.rounds,
    )
    memory = {m: common.peak_memory(prepare, m, "ready", shape) for m in ("ours", "monai")}
    rows = [
        ("whole time, default network", seconds["ours real"], seconds["monai real"], "s", "below 1.0"),
        ("overhead, network that costs nothing", seconds["ours ready"], seconds["monai ready"], "s", "at most 0.6"),
        ("peak memory", memory["ours"], memory["monai"], "MiB", "at most 0.8"),
    ]
    for what, mine, peer, unit, wanted in rows:
        print(
            f"{what:40s} ours {mine:8.2f} {unit}, MONAI {peer:8.2f} {unit}, ratio {mine / peer:.2f} (wanted: {wanted})"
        )
    print(f"same class in {100 * agree:.4f} % of the voxels (the rest are ties within rounding)")


if __name__ == "__main__":
    main()
