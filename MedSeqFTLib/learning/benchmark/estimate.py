"""What a benchmark will take: time and memory of a training step, measured on this machine with made-up patches."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cache import Index3
from MedSeqFTLib.learning.benchmark.cells import Cell
from MedSeqFTLib.learning.benchmark.config import BenchmarkConfig
from MedSeqFTLib.learning.benchmark.material import foundation_model, has_foundation
from MedSeqFTLib.learning.data import ANY_INPUT
from MedSeqFTLib.learning.losses import segmentation_loss
from MedSeqFTLib.learning.strategies.registry import REGISTRY
from MedSeqFTLib.models.catalogue import catalogue
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import build_head
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.workspace.networks import NetworkSpec
from MedSeqFTLib.workspace.workspace import Workspace

_ROUNDS = 2
_LONG = 2.0  # seconds: a step that takes so long is not tried again
_LARGE = 64  # voxels a side: larger patches are guessed from smaller ones, to save time
_CLASSES = 4
_STEPS_PER_CASE = 4.0  # time of measuring a case, in training steps; only the forecast uses it


@dataclass(frozen=True)
class Estimate:
    """A guess: patches may be smaller than assumed, other networks beside the model need memory, too."""

    step_seconds: float
    step_mib: float  # weights, their gradients and AdamW's state, and what the backward pass keeps

    def seconds(self, cells: Sequence[Cell], config: BenchmarkConfig) -> float:
        """Of learning and measuring the cells."""
        return self.step_seconds * sum(units(cell, config) for cell in cells)


def units(cell: Cell, config: BenchmarkConfig) -> float:
    """The time that a cell takes, in steps of plain fine-tuning."""
    measured = sum(config.task(task).held_out for task in cell.learned)
    strategy, earlier = REGISTRY[cell.strategy], len(cell.parent.learned) if cell.parent else 0
    learning = sum(
        strategy.expected_steps(settings, earlier) for settings in (cell.settings, *dict(cell.beside).values())
    )
    return learning + _STEPS_PER_CASE * measured


def estimate(config: BenchmarkConfig, data: Path, compute: Compute, cell: Cell) -> Estimate:
    """Train some steps on noise, with the foundation model's network and its full patch.

    Raises InputError if the foundation model's file is missing and its name stands in no catalogue.
    """
    network, patch = _network(config, data)
    side, batch = cell.settings.patch_side, cell.settings.batch_size
    wanted = (side,) * 3 if side else patch
    tried = tuple(min(length, max(_LARGE // network.stride, 2) * network.stride) for length in wanted)
    return _measured(network, (1, 1, *tried), compute, batch * math.prod(wanted) / math.prod(tried))


def _network(config: BenchmarkConfig, data: Path) -> tuple[NetworkSpec, Index3]:
    """The network and its patch; of a file that is not there yet, what the catalogue says of it."""
    if not has_foundation(config, data):
        for entry in catalogue().models:
            if Path(config.foundation).name in {file.name for file in entry.files}:
                return entry.network, entry.input.patch
        raise InputError(
            f"The foundation model {data / config.foundation} is missing, and no catalogue knows its name."
        )
    with tempfile.TemporaryDirectory() as folder:
        version = foundation_model(config, data, Workspace.create(Path(folder) / "workspace"))
    return version.network, (version.input or ANY_INPUT).patch


def _measured(network: NetworkSpec, shape: tuple[int, ...], compute: Compute, times: float) -> Estimate:
    """Measured with one patch of `shape`; a step has `times` as many voxels."""
    backbone, head = build_backbone(network, 0), build_head(network, _CLASSES, 0)
    parameters = [*backbone.to(compute.device).parameters(), *head.to(compute.device).parameters()]
    optimizer, loss = torch.optim.AdamW(parameters), segmentation_loss()
    image = torch.rand(shape, device=compute.device) * 2 - 1
    labels = torch.randint(_CLASSES, shape, device=compute.device)
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    seconds = float("inf")
    for number in range(_ROUNDS):
        if number and seconds > _LONG:
            break
        kept.clear()
        started = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with compute.autocast():
                logits = head(backbone(image))
            total = loss(logits.float(), labels)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total.item()  # waits for a GPU
        seconds = min(seconds, time.perf_counter() - started)
    weights = 4 * sum(parameter.nbytes for parameter in parameters)  # themselves, gradients, two moments
    return Estimate(times * seconds, (weights + times * sum(kept.values())) / 2**20)
