"""How to wait for what takes long and touches no scene: a window lives on meanwhile, a script simply waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Waiting(Protocol):
    """Does something, and returns what it returns; raises what it raises."""

    def __call__(self, action: Callable[[], T]) -> T: ...


def at_once(action: Callable[[], T]) -> T:
    """For scripts."""
    return action()
