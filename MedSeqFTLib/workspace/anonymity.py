"""Names in an anonymous workspace, which keeps nothing of the names of files, folders, volumes and patients.

They are random, not counted: a number would tell in which order and how many patients came, and stand for different
patients in two workspaces. Whether a workspace is anonymous is decided when it is made, and never changes.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.names import checked_name, free_name, name_from

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.workspace import Workspace

_OWN = re.compile(r"scan-[0-9a-f]{10}(-[0-9]+)?")


def new_name(taken: Iterable[str] = ()) -> str:
    """A random name, for instance scan-3f09c2a1de."""
    return free_name(f"scan-{secrets.token_hex(5)}", taken)


def name_for(workspace: Workspace, given: str | None, own: str, what: str) -> str:
    """The name under which something is kept.

    Args:
        given: by a person; None: no wish.
        own: the name of its file, folder or volume.
        what: it is, for messages: "case".

    Raises:
        InputError: an unusable name; or, in an anonymous workspace, one that a person gave.
    """
    if not workspace.info.anonymous:
        return checked_name(given, what) if given is not None else name_from(own, what)
    if given is None:
        return new_name()
    if not _OWN.fullmatch(given):
        raise InputError(
            f"This workspace is anonymous and chooses its names itself, so the {what} cannot be named {given!r}; "
            "leave the name out."
        )
    return given


def source_name(workspace: Workspace, path: Path) -> str:
    """What is kept of the name of a source file or folder: nothing, in an anonymous workspace."""
    return "" if workspace.info.anonymous else path.name
