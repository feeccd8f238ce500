"""Names with tags in them stay text in the window's tool tips and dialogs."""

from __future__ import annotations

import pytest
from PySide6.QtGui import QTextDocument

slicer_samples = pytest.importorskip("slicer_samples", reason="needs Slicer's libraries")

HOSTILE = '<b>liver</b> <img src="file:///etc/hostname"> 1 < 2 & 3\nsecond'


def test_tool_tips_show_tags_as_text() -> None:
    import slicer_program  # noqa: F401 - makes the window's modules importable

    from MedSeqFTLib.scene.panels.plain import plain

    assert plain("liver & co") == "liver & co"
    assert plain(HOSTILE).startswith("<qt>")
    document = QTextDocument()
    document.setHtml(plain(HOSTILE))
    assert document.toPlainText() == HOSTILE
