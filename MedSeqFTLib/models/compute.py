"""Where and how exactly to compute: device and precision, chosen by trying them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cache import Index3
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.workspace.networks import NetworkSpec

_ROUNDS = 3
_ROUNDING = 0.5  # of a gradient's length: rounding changes some by a fifth, what is wrong is off by its whole length


@dataclass(frozen=True)
class Compute:
    """A device and the dtype of mixed precision on it (float32: none)."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[None]:
        """The context for forward passes."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    @property
    def precision(self) -> str:
        """The dtype's name, for instance "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        return f"{name}, {self.precision}"


def choose_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """A device and a precision, both by name. Raises as `choose_device`."""
    return with_precision(choose_device(device), precision)


def choose_device(name: str = "auto") -> torch.device:
    """The device asked for ("auto": CUDA, then MPS, then CPU).

    Raises:
        InputError: the device asked for is not there or cannot run the network's layers; of "auto": none can.
    """
    return _first_that_works() if name == "auto" else _required(name)


def with_precision(device: torch.device, precision: str) -> Compute:
    """A device with the precision asked for ("auto": the faster of float32 and bfloat16, found by trying)."""
    if precision == "auto":
        precision = "bfloat16" if bfloat16_is_faster(device) else "float32"
    return Compute(device, getattr(torch, precision))


def _required(name: str) -> torch.device:
    device = torch.device(name)
    problem = device_problem(device)
    if problem:
        raise InputError(f"Device '{name}' cannot be used: {problem}. Use --device auto, or see 'medseqft doctor'.")
    return device


def _first_that_works() -> torch.device:
    problem: str | None = None
    for name in ("cuda", "mps", "cpu"):
        problem = device_problem(torch.device(name))
        if problem is None:
            return torch.device(name)
    raise InputError(f"Nothing computes here, not even the processor ({problem}). Is memory used up? See 'doctor'.")


def device_problem(device: torch.device) -> str | None:
    """None if the layers that the networks are made of run on `device`, else why not."""
    if not _is_present(device.type):
        return f"this PyTorch ({torch.__version__}) finds no such device"
    try:
        _time_convolutions(device, torch.float32, side=4)
    except (RuntimeError, MemoryError) as error:  # wrong driver, unknown GPU, layer missing on MPS
        return next(iter(str(error).splitlines()), type(error).__name__)
    return None


def gpu_problem() -> str | None:
    """Why the GPU of this computer cannot be used; None if it can, or if there is none."""
    return next((device_problem(torch.device(name)) for name in ("cuda", "mps") if _is_present(name)), None)


def _is_present(kind: str) -> bool:
    # counted, because a GPU whose memory is used up need not be "available"
    return {"cuda": torch.cuda.device_count() > 0, "mps": torch.backends.mps.is_available()}.get(kind, True)


def bfloat16_is_faster(device: torch.device) -> bool:
    """Measured on a small convolution, forward and backward; on many processors bfloat16 is many times slower."""
    if device.type == "mps":
        return False
    fastest = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with _one_thread():
        for _ in range(_ROUNDS):
            for dtype, before in fastest.items():  # in turns, so that a slow spell of the machine meets both
                fastest[dtype] = min(before, _time_convolutions(device, dtype, side=24))
    return fastest[torch.bfloat16] < 0.9 * fastest[torch.float32]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Several threads wait for each other, and beside other programs the longer, which counts as computing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def right_precision(compute: Compute, network: NetworkSpec, patches: Iterable[Index3]) -> Compute:
    """The same, or float32 where bfloat16 gives this network wrong gradients for patches of one of these sizes.

    With torch 2.13 on processors with AVX512-BF16, the gradient of a kernel over a feature map that is two voxels deep
    is whatever lay in memory before. Other depths are right, and so are other devices.

    Args:
        patches: voxels, z, y, x.
    """
    if compute.dtype is not torch.bfloat16 or compute.device.type != "cpu":
        return compute
    right = all(_bfloat16_is_right(network, patch) for patch in sorted(set(patches)))
    return compute if right else replace(compute, dtype=torch.float32)


@cache
def _bfloat16_is_right(network: NetworkSpec, patch: Index3) -> bool:
    backbone, image = build_backbone(network, 0), torch.rand((1, 1, *patch), generator=torch.Generator().manual_seed(0))
    kernels = [p for p in backbone.parameters() if p.ndim > 1]  # the gradient of a bias may be nothing but rounding
    # float32 comes second: it would leave the right gradients in memory
    found, wanted = (_gradients(backbone, kernels, image, dtype) for dtype in (torch.bfloat16, torch.float32))
    return all(float((f - w).norm()) <= _ROUNDING * float(w.norm()) for f, w in zip(found, wanted, strict=True))


def _gradients(
    backbone: Backbone, kernels: Sequence[nn.Parameter], image: Tensor, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Of everything that the backbone computes."""
    with Compute(image.device, dtype).autocast():
        features = backbone(image)
    computed = torch.stack([part.float().square().mean() for part in (*features.encoder, features.decoder)])
    return torch.autograd.grad(computed.sum(), kernels)


def _time_convolutions(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Seconds for one forward and backward pass through a convolution down and a transposed one up.

    On a processor they are seconds of this process's computing: beside other programs a worker, which is nicer than
    they are, waits for longer than it computes. Windows counts those in ticks of 16 ms, longer than a pass.
    """
    clock = time.process_time if device.type == "cpu" and sys.platform != "win32" else time.perf_counter
    down = nn.Conv3d(16, 16, 3, stride=2, padding=1).to(device)
    up = nn.ConvTranspose3d(16, 16, 3, stride=2, padding=1, output_padding=1).to(device)
    image = torch.ones((1, 16, side, side, side), device=device)
    start = clock()
    with Compute(device, dtype).autocast():
        result = up(down(image))
    result.float().sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start
