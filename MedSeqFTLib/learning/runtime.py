"""What is settled before anything is trained: threads, device and precision."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import SimpleITK as sitk
import torch
from filelock import FileLock

from MedSeqFTLib.imaging.cache import Index3
from MedSeqFTLib.learning.progress import Teller
from MedSeqFTLib.learning.settings import Settings
from MedSeqFTLib.models.compute import Compute, choose_device, gpu_problem, right_precision, with_precision
from MedSeqFTLib.workspace.files import read_json, write_json
from MedSeqFTLib.workspace.networks import NetworkSpec
from MedSeqFTLib.workspace.schema import Document

_KEPT = "precision-"


class MeasuredPrecision(Document):
    """precision-DEVICE.json: which precision was found to be faster on this type of device."""

    precision: Literal["float32", "bfloat16"]


def settle_compute(settings: Settings, folder: Path, teller: Teller) -> Compute:
    """Set the threads, choose device and precision, and tell the user.

    A precision that was found by measuring is kept in `folder`, for each type of device: who goes on there, or computes
    there at the same time, must not decide anew.

    Raises:
        InputError: the device asked for cannot be used.
        WorkspaceError: what was kept is damaged.
        StorageError: the disk is full.
    """
    use_threads(settings.threads)
    device = choose_device(settings.device)
    if passed_over := idle_gpu(device, settings.device):
        teller.warning(passed_over)
    if settings.precision == "auto":
        compute = _measured_once(device, folder, teller)
    else:
        compute = with_precision(device, settings.precision)
    teller.device(str(device), f"Computing on {described(compute)}.")
    return compute


def idle_gpu(device: torch.device, asked: str) -> str | None:
    """A sentence for the user, where "auto" took the processor because the GPU cannot be used."""
    problem = gpu_problem() if asked == "auto" and device.type == "cpu" else None
    if problem is None:
        return None
    return (
        f"The GPU cannot be used ({problem}): this is computed on the processor, which takes many times longer. "
        "If other programs use the GPU's memory, close them and start again."
    )


def right_compute(compute: Compute, network: NetworkSpec, patches: Iterable[Index3], teller: Teller) -> Compute:
    """What to train with on patches of these sizes (voxels, z, y, x): float32 where bfloat16 would go wrong."""
    right = right_precision(compute, network, patches)
    if right is not compute:
        teller.warning(
            f"PyTorch {torch.__version__} computes wrong bfloat16 gradients for these patches on this processor; this "
            "stage computes in float32, which takes longer. Patches of another size may be faster (patch_side)."
        )
    return right


def use_threads(number: int) -> None:
    """CPU threads of torch and SimpleITK; 0 leaves them as they are."""
    if number:
        torch.set_num_threads(number)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)


def described(compute: Compute) -> str:
    """Device, precision and, on a CPU, threads: on these the last bits of a result depend."""
    if compute.device.type != "cpu":
        return str(compute)
    threads = torch.get_num_threads()
    return f"{compute}, {threads} thread{'s' if threads > 1 else ''}"


def _measured_once(device: torch.device, folder: Path, teller: Teller) -> Compute:
    path = folder / f"{_KEPT}{device.type}.json"
    with FileLock(folder / "precision.lock"):
        if path.exists():
            return with_precision(device, read_json(path, MeasuredPrecision).precision)
        compute = with_precision(device, "auto")
        for other in sorted(folder.glob(f"{_KEPT}*.json")):
            teller.warning(
                f"Begun on {other.stem.removeprefix(_KEPT)} in {read_json(other, MeasuredPrecision).precision}, this "
                f"goes on with {compute}: what was computed before and after may differ a little."
            )
        write_json(path, MeasuredPrecision.model_validate({"precision": compute.precision}))
    return compute
