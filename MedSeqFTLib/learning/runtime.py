"""What every training job settles first: threads, device and precision."""

from __future__ import annotations

import torch

from MedSeqFTLib.learning.progress import Reporter
from MedSeqFTLib.learning.settings import Settings
from MedSeqFTLib.models.compute import Compute, choose_compute
from MedSeqFTLib.workspace.files import write_bytes_atomically


def settle_compute(settings: Settings, reporter: Reporter) -> Compute:
    """Choose device and precision and tell the user.

    The precision found by measuring is kept in the job's folder: a resumed run must not decide anew.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    kept = reporter.folder / "precision"
    precision = kept.read_text("ascii") if kept.exists() else settings.precision
    compute = choose_compute(settings.device, precision)
    write_bytes_atomically(kept, str(compute.dtype).removeprefix("torch.").encode("ascii"))
    threads = f", {torch.get_num_threads()} threads" if compute.device.type == "cpu" else ""
    reporter.device(str(compute.device), f"Computing on {compute}{threads}.")
    return compute
