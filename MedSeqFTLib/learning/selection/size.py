"""How many cases a buffer keeps. Torch-free, because it is asked before a job is started."""

from __future__ import annotations

import math

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.learning.settings import AdaptSettings


def buffer_size(cases: int, settings: AdaptSettings) -> int:
    """K, of a task with so many training cases: `buffer_size`, or else a share of the cases but at least a minimum.

    The share and the minimum never ask for more cases than there are; a K that was set and cannot be had is refused.

    Raises:
        InputError: `buffer_size` is more than the cases.
    """
    if settings.selection in ("none", "all"):
        return 0 if settings.selection == "none" else cases
    if settings.buffer_size > cases:
        raise InputError(
            f"buffer_size is {settings.buffer_size}, but the task has only {cases} training cases: "
            f"set at most {cases}, or 0 to keep a share of them (buffer_share)."
        )
    return settings.buffer_size or min(cases, max(settings.buffer_minimum, math.ceil(settings.buffer_share * cases)))
