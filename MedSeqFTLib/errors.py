"""The errors that a user may see. Everything else that is raised is a bug in MedSeqFT."""

from __future__ import annotations

import unicodedata

_LONGEST_LINE = 1000  # characters of a message


def visible(text: str) -> str:
    """Text from a file as it may be shown: what a terminal or a page would obey, or not show, is spelled out.

    Control characters, marks that turn the direction of writing, and half characters become \\x1b, \\u202e, \\ud800;
    ends of lines stay.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" or _is_blank(sign) else _spelled(sign) for sign in text)


def _is_blank(sign: str) -> bool:
    return unicodedata.category(sign) == "Zs"  # blanks of all widths


def _spelled(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def _shortened(line: str) -> str:
    """Values from damaged files may have megabytes; what begins and ends a line is worth most."""
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} [...] {line[-half:]}"


class MedSeqFTError(Exception):
    """A problem that the user can understand and mend.

    The message is one line and says what is wrong, where (file, value) and what was expected. It is shown as it is,
    without a traceback; the command line then exits with `exit_code`. What it quotes from files is made harmless here.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(_shortened(line) for line in visible(message).split("\n")))


class InputError(MedSeqFTError):
    """A file, value or request that cannot be used as given. Nothing was changed on disk."""


class GeometryError(InputError):
    """An image whose voxel grid is unusable, or two images whose grids differ."""


class WorkspaceError(MedSeqFTError):
    """The workspace is missing, newer than this program, damaged or in use by another process."""


class StorageError(MedSeqFTError):
    """A write failed (disk full, no permission). What was there before is untouched."""


class JobError(MedSeqFTError):
    """A background job failed or cannot do what is asked of it in its present state."""

    exit_code = 1


#: What libraries say where memory is used up: torch and oneDNN on a processor, C++, ITK, and the loader of libraries.
_NO_MEMORY = (
    "can't allocate memory",
    "could not create a primitive",
    "bad_alloc",
    "Failed to allocate memory",
    "failed to map segment from shared object",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was used up, of the computer or of its graphics card. Python and numpy raise MemoryError, torch an
    error of its own for graphics cards, all else has only words for it.
    """
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in str(error) for words in _NO_MEMORY)


def is_device_failure(error: BaseException) -> bool:
    """Whether a graphics card failed: nothing that this process asks of it afterwards succeeds."""
    return isinstance(error, RuntimeError) and str(error).startswith(("CUDA error", "CUDNN", "cuDNN error", "MPS"))


def what_the_computer_lacks(error: BaseException, then: str) -> str:
    """What is told of used-up memory or a failed graphics card; "" for any other error.

    Args:
        then: what to do when that is mended.
    """
    reason = next(iter(str(error).strip().splitlines()), "no memory is left")
    if is_out_of_memory(error):
        return f"Out of memory ({reason}). Close other programs, then {then}"
    if is_device_failure(error):
        return f"The graphics card failed ({reason}). First {then}. If it fails again, compute with device=cpu"
    return ""
