"""Who works in a workspace, for its records."""

from __future__ import annotations

import getpass


def person(given: str = "") -> str:
    """Who does this: as given, or else the login name, if there is one."""
    try:
        return given or getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, as in some containers
        return "unknown"
