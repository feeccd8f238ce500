"""When a stage does not fit into memory: once more with less at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from MedSeqFTLib.errors import JobError, is_out_of_memory
from MedSeqFTLib.learning.data import patch_unit
from MedSeqFTLib.learning.runtime import right_compute
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.learning.strategies.base import Learned, Strategy

T = TypeVar("T")


def learn_in_memory(strategy: Strategy, context: Context, folder: Path) -> Learned:
    """Learn; when memory runs out, begin the stage again with half the batch, or with smaller patches.

    Raises JobError if that does not fit either, or nothing can be halved.
    """
    return in_memory(context, lambda fitting: strategy.learn(fitting, folder))


def in_memory(context: Context, learn: Callable[[Context], T]) -> T:
    """What `learn` makes of a stage, or of the stage with less at a time: see `learn_in_memory`."""

    def smaller() -> tuple[Callable[[], T], str]:
        less, how = halved(context)
        return lambda: learn(_rightly(less)), how

    return once_more_with_less(lambda: learn(_rightly(context)), smaller, context)


def _rightly(context: Context) -> Context:
    """With a precision that is right for the patches."""
    patches = [plan.patch for plan in context.plans.values()]
    compute = right_compute(context.compute, context.parent.network, patches, context.reporter)
    return replace(context, compute=compute)


def once_more_with_less(
    work: Callable[[], T], smaller: Callable[[], tuple[Callable[[], T], str]], context: Context
) -> T:
    """The result of `work`; when memory runs out, of what `smaller` gives: the same with less at a time, and how.

    Raises JobError if that does not fit either.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), "no memory left")
    less, how = smaller()  # outside of the handler, which would keep the models in memory
    context.reporter.warning(f"Out of memory ({reason}). The stage begins again with {how}.")
    if context.compute.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        return less()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise JobError(
            f"Out of memory, with {how} too. Close other programs, or set a smaller patch_side or batch_size."
        ) from error


def halved(context: Context) -> tuple[Context, str]:
    """The same stage with half the batch, or else with patches of half the size; and that in words. Raises JobError."""
    batch = context.settings.batch_size
    if batch > 1:
        settings = context.settings.model_copy(update={"batch_size": batch // 2})
        return replace(context, settings=settings), f"batches of {batch // 2} instead of {batch}"
    unit = patch_unit(context.foundation)
    z, y, x = (max(unit, side // 2 // unit * unit) for side in context.plan.patch)
    if (z, y, x) == tuple(context.plan.patch):
        raise JobError("Out of memory, and neither batch nor patch can be halved. Close other programs.")
    plan = context.plan.model_copy(update={"patch": (z, y, x)})
    return replace(context, plan=plan), f"patches of {z} x {y} x {x} voxels"
