"""Dialogues, answered by the test. One that the test does not expect fails it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PySide6 import QtGui, QtWidgets
from pythonqt_layer import Enumerator, Proxy
from slicer_samples import slicer

BUTTONS = QtWidgets.QMessageBox.StandardButton
YES = (BUTTONS.Ok, BUTTONS.Yes, BUTTONS.Retry, BUTTONS.Save, BUTTONS.Open)
NO = (BUTTONS.Cancel, BUTTONS.No, BUTTONS.Close, BUTTONS.Discard)
#: Of these classes the functions that ask a question, and what they return for an answer.
STATICS: dict[type, dict[str, Callable[[Any], Any]]] = {
    QtWidgets.QFileDialog: {
        "getExistingDirectory": lambda path: str(path or ""),
        "getOpenFileName": lambda path: (str(path or ""), ""),
        "getSaveFileName": lambda path: (str(path or ""), ""),
        "getOpenFileNames": lambda paths: ([str(path) for path in paths or ()], ""),
    },
    QtWidgets.QInputDialog: dict.fromkeys(
        ("getText", "getItem", "getInt", "getDouble"), lambda answer: ("", False) if answer is None else (answer, True)
    ),
}


class Dialogs:
    """What was shown, and the answers that are still to be given."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.delayed: list[str] = []
        self.opened: list[str] = []
        self.unexpected: list[str] = []
        self._script: list[tuple[str, Any]] = []

    def expect(self, part: str, answer: Any = True) -> None:
        """The next dialogue has `part` in its text. The answer: True, False, a path or a text (None: cancelled).

        For a dialogue of the module's own, a function that gets the dialogue and returns True or False.
        """
        self._script.append((part, answer))

    def answer(self, text: str, details: str = "") -> Any:
        self.shown.append(text)
        if self._script and self._script[0][0] in text:
            return self._script.pop(0)[1]
        self.unexpected.append(f"{text}\n{details}".strip())
        raise AssertionError(f"a dialogue that the test does not expect: {text}")

    def check(self) -> None:
        """At the end of a test."""
        assert self.unexpected == [], "dialogues that the test does not expect"
        assert self._script == [], "dialogues that were expected and did not come"

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Instead of slicer.util's boxes, Qt's dialogues and the browser."""
        patch.setattr(slicer.util, "_messageDisplay", self._message)
        patch.setattr(slicer.util, "messageBox", self._box)
        patch.setattr(slicer.util, "delayDisplay", lambda message, *_args, **_named: self.delayed.append(message))
        for kind, functions in STATICS.items():
            for name, result in functions.items():
                patch.setattr(kind, name, staticmethod(self._static(result)))
        for name in ("question", "information", "warning", "critical"):
            patch.setattr(QtWidgets.QMessageBox, name, staticmethod(self._static_box))
        patch.setattr(QtWidgets.QDialog, "exec", lambda dialog: self._execute(dialog))
        patch.setattr(QtGui.QDesktopServices, "openUrl", staticmethod(self._open))

    def _message(self, _level: int, text: str, *_rest: Any, **named: Any) -> Any:
        return self._box(text, **named)

    def _box(self, text: str, *_rest: Any, **named: Any) -> Any:
        return button(named.get("standardButtons", 0), self.answer(text, named.get("detailedText", "")))

    def _static(self, result: Callable[[Any], Any]) -> Callable[..., Any]:
        def ask(_parent: Any = None, title: str = "", text: str = "", *_rest: Any) -> Any:
            return result(self.answer(f"{title} {text}"))

        return ask

    def _static_box(self, _parent: Any, _title: str, text: str, buttons: Any = BUTTONS.Ok, *_rest: Any) -> Any:
        return button(buttons.value, self.answer(text)).member

    def _execute(self, dialog: QtWidgets.QDialog) -> Any:
        if isinstance(dialog, QtWidgets.QMessageBox):
            return button(dialog.standardButtons().value, self.answer(dialog.text()))
        answer = self.answer(dialog.windowTitle())
        dialog.show()
        QtWidgets.QApplication.processEvents()
        accepted = answer(Proxy(dialog)) if callable(answer) else answer
        dialog.done(int(bool(accepted)))
        return dialog.result()

    def _open(self, url: Any) -> bool:
        """Recorded, and opened nowhere."""
        self.opened.append(url.toString())
        return True


def button(offered: int, answer: bool) -> Enumerator:
    """The button that says yes or no, of those that are offered."""
    for candidate in YES if answer else NO:
        if candidate.value & int(offered or BUTTONS.Ok.value):
            return Enumerator(candidate)
    raise AssertionError(f"the dialogue has no button for the answer {answer}")
