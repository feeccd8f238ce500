"""Where a command computes that trains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from MedSeqFTLib.commands.console import warn

if TYPE_CHECKING:
    from MedSeqFTLib.models.compute import Compute


def chosen_compute(device: str, precision: str = "auto") -> Compute:
    """Device and precision by name; the user is told where "auto" passes over a GPU that cannot be used.

    Raises:
        InputError: the device asked for cannot be used.
    """
    from MedSeqFTLib.learning.runtime import idle_gpu
    from MedSeqFTLib.models.compute import choose_compute

    compute = choose_compute(device, precision)
    if passed_over := idle_gpu(compute.device, device):
        warn(passed_over)
    return compute
