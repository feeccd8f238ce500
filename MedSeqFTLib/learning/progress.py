"""What the learning code asks of whoever runs it. The jobs room has the real ones; scripts may bring their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, SupportsFloat

#: What was measured with the last step on a held-out case, by the name of what was measured; None: empty reference.
Dice = Mapping[str, float | None]


class Teller(Protocol):
    """Where progress goes and where the wish to cancel comes from."""

    def plan(self, stages: Sequence[tuple[str, float]]) -> None:
        """Declare all stages and their sizes in units of about equal cost."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Enter a stage."""

    def step(self, step: int, losses: Mapping[str, SupportsFloat] | None = None, *, dice: Dice | None = None) -> None:
        """`step` steps of the stage are done. May raise to cancel."""

    def message(self, text: str) -> None:
        """One line for the user."""

    def warning(self, text: str) -> None:
        """One line for the user about something that may be wrong."""

    def device(self, device: str, text: str | None = None) -> None:
        """Which device computes."""

    def check_cancel(self) -> None:
        """May raise to cancel."""


class Reporter(Teller, Protocol):
    """What a training needs besides telling (see MedSeqFTLib.jobs.reporter)."""

    @property
    def folder(self) -> Path:
        """A folder for checkpoints and intermediate results that lasts until the job is finished."""


class Job(Protocol):
    """What is to be done (see MedSeqFTLib.jobs.job)."""

    @property
    def id(self) -> str: ...

    @property
    def task(self) -> str | None: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def seed(self) -> int: ...
