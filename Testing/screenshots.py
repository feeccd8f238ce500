"""Pictures of the module's window, light and dark, without the Slicer program.

    python Testing/screenshots.py FOLDER

Needs what the tests need. The frame around the panels is Qt's, not Slicer's. The pictures show
the folder of the sources: take those that are to be published from a clone in a neutral place.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent / "Python"), str(Path(__file__).resolve().parents[1])]

import pytest  # noqa: E402
from PySide6 import QtGui, QtWidgets  # noqa: E402
from slicer_boot import boot  # noqa: E402
from slicer_program import Window, supply  # noqa: E402


def palette(dark: bool) -> QtGui.QPalette:
    """Light gray, or dark gray with light text; Qt derives the other shades."""
    found = QtGui.QPalette(QtGui.QColor(53, 53, 53) if dark else QtGui.QColor(239, 239, 239))
    roles = QtGui.QPalette.ColorRole
    for role in (roles.Text, roles.WindowText, roles.ButtonText):
        found.setColor(QtGui.QPalette.ColorGroup.Disabled, role, QtGui.QColor(128, 128, 128))
    return found


def take(folder: Path, name: str, dark: bool) -> None:
    """Open the window, unfold the list of foundation models, and save what is seen."""
    QtWidgets.QApplication.setPalette(palette(dark))
    window = Window()
    window.click(window.ui.foundationCollapsibleButton, y=8)
    path = folder / f"{name}-{'dark' if dark else 'light'}.png"
    if not window.frame.grab().save(str(path)):
        raise SystemExit(f"{path} cannot be written.")
    window.frame.close()


def main(folder: Path) -> None:
    """Both pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    application = QtWidgets.QApplication([])
    application.setStyle("Fusion")
    with pytest.MonkeyPatch.context() as patch:
        boot(patch)
        supply(patch)
        for dark in (False, True):
            take(folder, "module", dark)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
