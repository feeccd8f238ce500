"""How the learning code tells what it is doing, and how it hears that it should stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import SupportsFloat

from MedSeqFTLib.jobs.events import Event, EventWriter
from MedSeqFTLib.jobs.log import LOG_FILE, turn_over
from MedSeqFTLib.learning.progress import Dice

_LOOK_INTERVAL = 0.5  # seconds between two looks for the cancel flag, and at the size of the log
_SHORTEST_INTERVAL = 0.25  # seconds between two progress events of a young job ...
_LONGEST_INTERVAL = 30.0  # ... and of one that has run for eight hours, so that the events of days stay a small file
_ENOUGH = 0.02  # of what is left must have been measured before the time left is told
_SMOOTHING = 30.0  # seconds over which the speed is averaged


class Cancelled(Exception):
    """The user asked the job to stop. Let it pass: the worker catches it; a resumed job goes on from its checkpoint."""


class Forecast:
    """Time left of a sequence of stages whose sizes are known in units of about equal cost, such as training steps.

    The present stage goes on at its own speed, smoothed over half a minute; the later ones at the mean speed so far.
    """

    def __init__(self) -> None:
        self.units: dict[str, float] = {}
        self.stage: str | None = None
        self.share = 0.0  # of the present stage, 0..1
        self._measured_share = 0.0
        self._measured_at = 0.0
        self._speed: float | None = None  # of the present stage, units per second
        self._units_seen = 0.0  # measured so far in all stages, and the seconds that they took
        self._seconds_seen = 0.0

    def enter(self, stage: str, units: float, share: float, at: float) -> None:
        """Begin a stage of which `share` is done already. The stages planned before it count as done."""
        self.units.setdefault(stage, units)
        self.stage, self.share = stage, share
        self._measured_share, self._measured_at = share, at
        self._speed = None

    def measure(self, at: float) -> None:
        """Learn from what was done since the last measurement."""
        seconds = at - self._measured_at
        if self.stage is None or self.share <= self._measured_share or seconds <= 0:
            return
        units = (self.share - self._measured_share) * self.units[self.stage]
        self._units_seen += units
        self._seconds_seen += seconds
        self._speed = _smoothed(self._speed, units / seconds, seconds)
        self._measured_share, self._measured_at = self.share, at

    def seconds_left(self) -> float | None:
        """Of all stages together; None until enough was measured for a guess."""
        if self.stage is None or not self._units_seen:
            return None
        here, after = (1.0 - self.share) * self.units[self.stage], self._units_after(self.stage)
        if self._units_seen < _ENOUGH * (here + after):
            return None
        mean_speed = self._units_seen / self._seconds_seen
        return here / (self._speed or mean_speed) + after / mean_speed

    def _units_after(self, stage: str) -> float:
        names = list(self.units)
        return sum(self.units[name] for name in names[names.index(stage) + 1 :])


def _smoothed(before: float | None, latest: float, seconds: float) -> float:
    if before is None:
        return latest
    return before + (1.0 - math.exp(-seconds / _SMOOTHING)) * (latest - before)


class Reporter:
    """Given to the learning code by the worker. All methods are cheap enough to be called on every training step."""

    def __init__(
        self, folder: Path, events: EventWriter, cancel_path: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = Path(folder)
        self._events = events
        self._cancel_path = Path(cancel_path)
        self._clock = clock
        self._began = clock()
        self._next_event = -math.inf
        self._next_look = -math.inf
        self._stage: str | None = None
        self._total = 0
        self._forecast = Forecast()

    def plan(self, stages: Sequence[tuple[str, float]]) -> None:
        """Declare the stages of the whole job in their order, with their sizes in units of about equal cost.

        A stage that is not planned is added behind the planned ones with its number of steps as its size. On a
        resumed job plan everything again; entering a stage makes the ones before it count as done.
        """
        names = [name for name, _ in stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stages must differ, got {names}")
        self._forecast.units = {name: float(units) for name, units in stages}

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Enter a stage of `total` steps of which `done` were done before (a resumed job). Raises Cancelled."""
        self._forecast.measure(self._clock())
        self._stage, self._total = name, total
        self._forecast.enter(name, float(total), self._share(done), self._clock())
        self._write(Event(kind="stage", stage=name, step=done, total=total, seconds_left=self.seconds_left))
        self._next_event = -math.inf
        self.check_cancel()

    def step(self, step: int, losses: Mapping[str, SupportsFloat] | None = None, *, dice: Dice | None = None) -> None:
        """Tell that `step` steps of the stage are done (1 after the first, `total` after the last).

        Most calls write nothing: a few events a second are enough, and the first and the last of a stage are always
        written. Values of `losses` are converted to float only when they are written, so tensors may be passed
        without waiting for the GPU on every step. The event's `loss` is the entry "loss", else the sum of all.

        Raises:
            Cancelled: the user asked the job to stop.
        """
        at = self._clock()
        self._forecast.share = self._share(step)
        if at >= self._next_event or step == self._total:
            self._next_event = at + self._interval(at)
            self._forecast.measure(at)
            self._write_progress(step, losses or {}, dice or {})
        self._look(at)

    def message(self, text: str) -> None:
        """Tell the user something, in one line."""
        self._write(Event(kind="message", stage=self._stage, text=text))

    def warning(self, text: str) -> None:
        """Tell the user about something that may be wrong, in one line."""
        self._write(Event(kind="warning", stage=self._stage, text=text))

    def device(self, device: str, text: str | None = None) -> None:
        """Tell which device computes, for instance "cuda:0", with an optional line on it."""
        self._write(Event(kind="message", stage=self._stage, device=device, text=text or f"Computing on {device}."))

    def check_cancel(self) -> None:
        """Raise Cancelled if the user asked the job to stop. Looks at the disk twice a second at most."""
        self._look(self._clock())

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of the whole job; None until something is known."""
        return self._forecast.seconds_left()

    def _look(self, at: float) -> None:
        if at < self._next_look:
            return
        turn_over(self.folder / LOG_FILE)
        if self._cancel_path.exists():
            raise Cancelled
        self._next_look = at + _LOOK_INTERVAL

    def _share(self, step: int) -> float:
        return min(1.0, step / self._total) if self._total > 0 else 1.0

    def _interval(self, at: float) -> float:
        return min(_LONGEST_INTERVAL, max(_SHORTEST_INTERVAL, (at - self._began) / 1000))

    def _write_progress(self, step: int, losses: Mapping[str, SupportsFloat], dice: Dice) -> None:
        values = {name: float(value) for name, value in losses.items()}
        loss = values.get("loss", sum(values.values())) if values else None
        self._write(
            Event(
                kind="progress",
                stage=self._stage,
                step=step,
                total=self._total,
                loss=loss,
                losses=values,
                dice=dice,
                seconds_left=self.seconds_left,
            )
        )

    def _write(self, event: Event) -> None:
        self._events.append(event)
