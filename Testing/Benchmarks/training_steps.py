"""Training steps per second against a plain MONAI loop on the same network, data, patches, augmentation and loss.

The peer: CacheDataset with the prepared volumes in memory, RandCropByPosNegLabeld, the same augmentation, DataLoader,
AdamW; float32 and bfloat16. Ours reads from the cache on disk, and reports and writes checkpoints as a job does.

python Testing/Benchmarks/training_steps.py [--steps 40] [--patch 48]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, EnsureChannelFirstd, RandCropByPosNegLabeld
from torch import nn

from MedSeqFTLib.imaging.cache import Prepared, PreparedCase, write_prepared
from MedSeqFTLib.imaging.preprocessing import network_values, to_levels
from MedSeqFTLib.imaging.sampling import PatchSampler, augmentation
from MedSeqFTLib.jobs.events import EventWriter
from MedSeqFTLib.jobs.reporter import Reporter
from MedSeqFTLib.learning.losses import TaskLoss, segmentation_loss
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.learning.training import Training
from MedSeqFTLib.models.compute import Compute, bfloat16_is_faster
from MedSeqFTLib.models.head import build_head
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.workspace.networks import ResidualUNetDescription

SHAPE, CASES, CLASSES, BATCH = (96, 112, 96), 6, 4, 2


def volumes() -> list[tuple[np.ndarray, np.ndarray]]:
    scans = [common.smooth_scan(SHAPE, seed) for seed in range(CASES)]
    return [
        (to_levels(s.astype(np.float32), -1000, 2000), np.digitize(s, (400, 900, 1400)).astype(np.uint8)) for s in scans
    ]


def networks() -> tuple[nn.Module, nn.Module]:
    return build_backbone(ResidualUNetDescription(), 0).train(), build_head(
        ResidualUNetDescription(), CLASSES, 0
    ).train()


class Ours:
    """The product's own loop with reporter, events and checkpoints."""

    def __init__(self, folder: Path, data: list[tuple[np.ndarray, np.ndarray]], patch: int, compute: Compute) -> None:
        self.folder, self.compute, self.patch = folder, compute, (patch,) * 3
        for number, (image, labels) in enumerate(data):
            case = folder / f"case{number}"
            case.mkdir()
            write_prepared(case, Prepared(image, labels, np.ones(CLASSES, bool)))
        self.cases = [PreparedCase(folder / f"case{number}") for number in range(len(data))]

    def run(self, steps: int) -> None:
        backbone, head = networks()
        sampler = PatchSampler(self.cases, self.patch, BATCH, seed=0)
        settings = AdaptSettings()
        losses = TaskLoss(backbone, head, sampler, self.compute)
        run = self.folder / f"run{time.monotonic_ns()}"
        run.mkdir()
        with EventWriter(run / "events.jsonl") as events:
            Training(
                "stage A",
                {"backbone": backbone, "head": head},
                losses,
                steps=steps,
                learning_rate=1e-3,
                weight_decay=1e-4,
                compute=self.compute,
                reporter=Reporter(run, events, run / "cancel"),
                checkpoint_seconds=settings.checkpoint_seconds,
                identity="benchmark",
            ).run()


class Monai:
    """A plain loop as MONAI's tutorials write it."""

    def __init__(self, data: list[tuple[np.ndarray, np.ndarray]], patch: int, compute: Compute) -> None:
        keys = ("image", "label")
        transforms = Compose(
            [
                EnsureChannelFirstd(keys, channel_dim="no_channel"),
                RandCropByPosNegLabeld(keys, label_key="label", spatial_size=(patch,) * 3, pos=2, neg=1),
                Renamed(augmentation((patch,) * 3)),
            ]
        )
        items = [{"image": network_values(image), "label": labels} for image, labels in data]
        cached = CacheDataset(items, transforms, cache_rate=1.0, progress=False)
        self.loader = DataLoader(cached, batch_size=BATCH, shuffle=True, num_workers=0)
        self.compute = compute

    def run(self, steps: int) -> None:
        backbone, head = networks()
        parameters = [*backbone.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4)
        loss_function, done = segmentation_loss(), 0
        while done < steps:
            for batch in self.loader:
                with self.compute.autocast():
                    logits = head(backbone(batch["image"].as_tensor()))
                loss = loss_function(logits.float(), batch["label"].as_tensor())
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 5.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                loss.item()
                done += 1
                if done == steps:
                    break


class Renamed:
    """The product's augmentation on the peer's keys."""

    def __init__(self, transform: Compose) -> None:
        self.transform = transform

    def __call__(self, sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        changed = self.transform({"image": sample["image"], "labels": sample["label"]})
        return {"image": changed["image"], "label": changed["labels"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    cpu, data = torch.device("cpu"), volumes()
    chosen = torch.bfloat16 if bfloat16_is_faster(cpu) else torch.float32
    peers = {"MONAI float32": Compute(cpu, torch.float32), "MONAI bfloat16": Compute(cpu, torch.bfloat16)}
    print(f"{common.machine()}; {CASES} volumes {SHAPE}, patch {options.patch}^3, batch {BATCH}, {options.steps} steps")
    with tempfile.TemporaryDirectory() as name:
        ours = Ours(Path(name), data, options.patch, Compute(cpu, chosen))
        runs = {f"ours {chosen}": lambda: ours.run(options.steps)}
        for label, compute in peers.items():
            steps = options.steps if compute.dtype is chosen or compute.dtype is torch.float32 else 2
            peer = Monai(data, options.patch, compute)
            runs[label] = lambda peer=peer, steps=steps: peer.run(steps)
        seconds = common.in_turns(runs, options.rounds)
    speeds = {
        n: (options.steps if "ours" in n or "float32" in n or chosen is torch.bfloat16 else 2) / s
        for n, s in seconds.items()
    }
    mine = next(iter(speeds.values()))
    for label, speed in speeds.items():
        print(f"{label:22s} {speed:6.2f} steps/s, ours is {mine / speed:.2f} times as fast")
    fastest = max(speed for label, speed in speeds.items() if label.startswith("MONAI"))
    print(f"against the faster peer: {mine / fastest:.2f} (wanted: at least 1.0)")


if __name__ == "__main__":
    main()
