"""Text from files and scenes in tool tips and dialogs: Qt would take tags in it for rich text, and load pictures."""

from __future__ import annotations

import html


def plain(text: str) -> str:
    """The text as Qt shows it unchanged wherever it guesses whether a text is rich. Labels are told that theirs is not.

    It is left as it is where nothing in it could be a tag.
    """
    if "<" not in text:
        return text
    return f"<qt>{html.escape(text, quote=False)}</qt>".replace("\n", "<br>")
