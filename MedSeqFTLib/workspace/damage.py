"""One damaged document among many: whoever decides from a list gets an error, whoever only shows it sees the others.

A list with fewer cases than there are would train, measure and choose other than a person believes. So every list of
the workspace is an error if one of its documents is damaged, unless its reader says that it is shown only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from MedSeqFTLib.errors import MedSeqFTError

K = TypeVar("K")
T = TypeVar("T")
_LEFT_OUT: ContextVar[list[str] | None] = ContextVar("left_out", default=None)


@contextmanager
def shown_only() -> Iterator[list[str]]:
    """In the body, for this thread, lists leave out what is damaged; the result fills with what is wrong with it.

    Only for what a person is going to look at: nothing may be decided from such a list.
    """
    left_out: list[str] = []
    token = _LEFT_OUT.set(left_out)
    try:
        yield left_out
    finally:
        _LEFT_OUT.reset(token)


def in_short(left_out: Sequence[str]) -> str:
    """What is damaged, in a line, and what to do; "" if nothing is."""
    if not left_out:
        return ""
    more = f" And {len(left_out) - 1} more." if left_out[1:] else ""
    return f"{left_out[0]}{more} medseqft audit verify tells what else is damaged."


def read_each(reads: Iterable[tuple[K, Callable[[], T]]]) -> tuple[dict[K, T], list[MedSeqFTError]]:
    """What could be read, by its key, and why the others could not. `refuse` the latter, now or later."""
    found: dict[K, T] = {}
    problems: list[MedSeqFTError] = []
    for key, read in reads:
        try:
            found[key] = read()
        except MedSeqFTError as error:
            problems.append(error.with_traceback(None))  # it may be kept, and what led to it would be
    return found, problems


def refuse(problems: Sequence[MedSeqFTError]) -> None:
    """Raise the first of what is wrong, if anything is; where lists are only shown, take note of all of it instead."""
    left_out = _LEFT_OUT.get()
    if left_out is None:
        for problem in problems:
            raise problem
    else:
        left_out += [text for text in dict.fromkeys(map(str, problems)) if text not in left_out]


def all_of(reads: Iterable[Callable[[], T]]) -> list[T]:
    """What all of them return, in their order. Raises the first of their errors, unless the list is only shown."""
    found, problems = read_each(enumerate(reads))
    refuse(problems)
    return list(found.values())


def read_or(read: Callable[[], T], otherwise: T) -> T:
    """What `read` returns; `otherwise` if that fails and is only shown."""
    found = all_of([read])
    return found[0] if found else otherwise
