"""The one training loop, with checkpoints from which a killed run goes on to the same weights."""

from __future__ import annotations

import random
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MedSeqFTLib.errors import JobError, WorkspaceError
from MedSeqFTLib.learning.progress import Reporter
from MedSeqFTLib.models.checkpoints import UNREADABLE
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.workspace.files import atomic_path

MAXIMAL_GRADIENT_NORM = 5.0
WARM_UP = 0.1  # share of the steps
#: Losses of one step by name; their sum is minimised. A function of the step alone, apart from the weights.
Losses = Callable[[int], Mapping[str, Tensor]]


class Training:
    """AdamW with a one-cycle learning rate over a fixed number of steps.

    Args:
        name: of the stage, as shown to the user; also names the checkpoint.
        modules: what is trained; parameters that require no gradient are left alone.
        losses: called with the number of the step, 0 to steps - 1.
        identity: everything that the run depends on; a checkpoint of another identity is not taken up.
    """

    def __init__(
        self,
        name: str,
        modules: Mapping[str, nn.Module],
        losses: Losses,
        *,
        steps: int,
        learning_rate: float,
        weight_decay: float,
        compute: Compute,
        reporter: Reporter,
        checkpoint_seconds: float,
        identity: str,
    ) -> None:
        self._name = name
        self._modules = modules
        self._losses = losses
        self._steps = steps
        self._reporter = reporter
        self._identity = identity
        self._checkpoint_seconds = checkpoint_seconds
        self._checkpoint_path = checkpoint_path(reporter.folder, name)
        self._parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=learning_rate,
            weight_decay=weight_decay,
            fused=True,  # one pass over all weights
        )
        self._schedule = _one_cycle(self._optimizer, learning_rate, steps)
        # bfloat16 has the range of float32 and needs no scaling; the scaler is here for float16
        self._scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.dtype is torch.float16)

    def run(self) -> None:
        """Train from the start, or from the checkpoint of an interrupted run, to the last step.

        Raises:
            JobError: the loss became infinite or not a number.
        """
        step = self._restore()
        self._reporter.stage(self._name, self._steps, done=step)
        saved = time.monotonic()
        for module in self._modules.values():
            module.train()
        try:
            while step < self._steps:
                losses = self._step(step)
                step += 1
                if step == self._steps or time.monotonic() - saved >= self._checkpoint_seconds:
                    self._save(step)
                    saved = time.monotonic()
                self._reporter.step(step, losses)
        finally:
            for module in self._modules.values():
                module.eval()

    def _step(self, step: int) -> Mapping[str, Tensor]:
        losses = self._losses(step)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            values = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
            raise JobError(
                f"The loss of {self._name} became unusable at step {step + 1} ({values}); lower the learning rate."
            )
        self._scaler.scale(total).backward()
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._parameters, MAXIMAL_GRADIENT_NORM)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        return {name: value.detach() for name, value in losses.items()}

    def _save(self, step: int) -> None:
        self._checkpoint_path.parent.mkdir(exist_ok=True)
        state = {
            "identity": self._identity,
            "step": step,
            "modules": {name: module.state_dict() for name, module in self._modules.items()},
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": random_states(),
        }
        with atomic_path(self._checkpoint_path) as temporary:
            torch.save(state, temporary)

    def _restore(self) -> int:
        """The step to go on with, 0 without a checkpoint."""
        if not self._checkpoint_path.exists():
            return 0
        state = read_checkpoint(self._checkpoint_path)
        if state["identity"] != self._identity:
            self._reporter.warning(f"{self._name} starts again: data or settings changed since its checkpoint.")
            return 0
        for name, module in self._modules.items():
            module.load_state_dict(state["modules"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        restore_random_states(state["random"])
        return int(state["step"])


def _one_cycle(
    optimizer: torch.optim.Optimizer, learning_rate: float, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Up for a tenth of the steps, then down. torch's schedule needs two steps to go up and one to go down."""
    total = max(steps, 3)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=total, pct_start=max(WARM_UP, 2 / total)
    )


def checkpoint_path(folder: Path, name: str) -> Path:
    """Where the stage of this name keeps its checkpoint, in the folder of a job."""
    return folder / "checkpoints" / f"{name.replace(' ', '-')}.pt"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint as written. Raises WorkspaceError if it is damaged."""
    try:
        with zipfile.ZipFile(path) as parts:
            if parts.testzip() is not None:  # torch writes checksums, and does not look at them
                raise zipfile.BadZipFile
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, zipfile.BadZipFile, *UNREADABLE) as error:
        raise WorkspaceError(f"Checkpoint {path} is damaged; delete it to begin its stage again.") from error
    return state


def random_states() -> dict[str, Any]:
    """The states of all global random generators, in types that load without pickle code."""
    version, keys, gauss = random.getstate()
    numbers: dict[str, Any] = np.random.get_state(legacy=False)
    states: dict[str, Any] = {
        "python": [version, list(keys), gauss],
        "numpy": [numbers["state"]["key"].tolist(), numbers["state"]["pos"], numbers["has_gauss"], numbers["gauss"]],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Undo what happened to the global random generators since `random_states`."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    key, position, has_gauss, gauss = states["numpy"]
    np.random.set_state(("MT19937", np.array(key, np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
