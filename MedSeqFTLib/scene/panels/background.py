"""What takes longer than a blink and needs no process of its own: a thread, with the result back in the window."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import qt
import slicer

from MedSeqFTLib.scene.panels.panel import guarded, on

if TYPE_CHECKING:
    from MedSeqFTLib.scene.waiting import Waiting

T = TypeVar("T")
INTERVAL = 50  # milliseconds between two looks
TURN = 0.02  # seconds of each look that Python's other threads surely get, even if the program hogs the interpreter


class _Asked(NamedTuple):
    action: Callable[[], Any]
    done: Callable[[Any], None]
    failed: Callable[[], None]
    outcome: Future[Any]

    def work(self) -> None:
        try:
            self.outcome.set_result(self.action())
        except Exception as error:  # noqa: BLE001  raised again in the window
            self.outcome.set_exception(error)


class Background:
    """Does one thing after another. The things must touch neither the scene nor a widget."""

    def __init__(self) -> None:
        """Nothing is done yet."""
        self._thread: threading.Thread | None = None
        self._asked: list[_Asked] = []  # the first of them is being done
        self._timer = qt.QTimer()
        self._timer.setInterval(INTERVAL)
        on(self._timer.timeout, self._look)

    @property
    def is_active(self) -> bool:
        """True until everything is done; when `done` is called, that is."""
        return self._thread is not None

    def run(
        self, action: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[], None] = lambda: None
    ) -> None:
        """Do `action` when what was asked before is done; then `done` gets its value here.

        What it raises is shown to the user after `failed`.
        """
        self._asked.append(_Asked(action, done, failed, Future()))
        if self._thread is None:
            self._begin()

    def finish(self, waiting: Waiting) -> None:
        """Return when all that was asked is done, and `done` has been called, whatever goes wrong."""
        while self._asked:
            first = self._asked[0]
            waiting(partial(wait, [first.outcome]))
            if self._asked and self._asked[0] is first:  # else the timer was quicker
                guarded(self._end)

    def close(self) -> None:
        """The window is going: nobody is told."""
        self._timer.stop()
        self._thread = None
        self._asked.clear()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._asked[0].work, daemon=True)
        self._thread.start()
        self._timer.start()

    def _look(self) -> None:
        if self._thread is None:
            return
        self._thread.join(TURN)
        if not self._thread.is_alive():
            self._end()

    def _end(self) -> None:
        self._timer.stop()
        self._thread, ended = None, self._asked.pop(0)
        if self._asked:
            self._begin()
        if error := ended.outcome.exception():
            guarded(ended.failed)
            raise error
        ended.done(ended.outcome.result())


def waited_for(action: Callable[[], T]) -> T:
    """The value of `action`, for a caller who cannot go on without; it must touch neither the scene nor a widget.

    It is done on a thread: timers and painting go on, clicks and keys wait, so that nothing is begun in between.
    Raises what `action` raises.
    """
    with ThreadPoolExecutor(max_workers=1) as executor:
        future = executor.submit(action)
        while not wait([future], TURN).done:
            slicer.app.processEvents(qt.QEventLoop.ExcludeUserInputEvents)
        return future.result()
