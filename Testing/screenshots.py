"""Pictures of the module's panels in their states, light and dark, without the Slicer program.

    python Testing/screenshots.py FOLDER [SCENES...] [--scratch DIR]

A picture shows one panel. What happens is real, with workers on tiny scans, apart from the Segment Editor, for which a
line stands, and the installers, which are fakes. SCENES are names from `picture_scenes.SCENES`, by default all, which
takes some minutes. DIR is where the workspaces are made that the pictures name: a new or an empty folder.
The pictures show the folder of the sources, too: take those that are to be published from a neutral place.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent / "Python"), str(Path(__file__).resolve().parents[1])]
os.environ["QT_QPA_PLATFORM"] = "offscreen"

import pytest  # noqa: E402
from picture_scenes import SCENES, Stage, twice_adapted_workspace  # noqa: E402
from PySide6 import QtGui, QtWidgets  # noqa: E402
from slicer_boot import boot  # noqa: E402
from slicer_program import Window, running  # noqa: E402

from MedSeqFTLib.workspace.workspace import Workspace  # noqa: E402


def palette(dark: bool) -> QtGui.QPalette:
    """Light gray, or dark gray with light text; Qt derives the other shades."""
    found = QtGui.QPalette(QtGui.QColor(53, 53, 53) if dark else QtGui.QColor(239, 239, 239))
    roles, faint = QtGui.QPalette.ColorRole, 150 if dark else 120
    for role in (roles.Text, roles.WindowText, roles.ButtonText):
        found.setColor(QtGui.QPalette.ColorGroup.Disabled, role, QtGui.QColor(faint, faint, faint))
    return found


def take(scene: str, adapted: Workspace, data: Path, target: Path, shade: str) -> None:
    """One scene, in a Slicer and with a data folder of its own."""
    for path in data.iterdir():
        shutil.rmtree(path)
    QtWidgets.QApplication.setPalette(palette(shade == "dark"))
    with pytest.MonkeyPatch.context() as patch:
        boot(patch)
        with running(patch, data / "settings") as program:
            window = Window(program.dialogs, program.installers, program.raised)
            stage = Stage(window, patch, adapted, data, target, shade)
            try:
                SCENES[scene](stage)
            finally:
                stage.end()


def main(target: Path, scenes: list[str], scratch: Path | None) -> None:
    """Light and dark. Raises ValueError if `scratch`, which is emptied before each picture, holds anything already."""
    if scratch is not None and scratch.exists() and (not scratch.is_dir() or any(scratch.iterdir())):
        raise ValueError(
            f"{scratch} is not empty: it would be emptied before each picture. Name a new or empty folder."
        )
    target.mkdir(parents=True, exist_ok=True)
    QtWidgets.QApplication([]).setStyle("Fusion")  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as name:
        adapted = twice_adapted_workspace(Path(name) / "adapted")
        place = scratch or Path(name) / "data"
        place.mkdir(parents=True, exist_ok=True)
        for scene in scenes:
            for shade in ("light", "dark"):
                take(scene, adapted, place, target, shade)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(SCENES))
    parser.add_argument("--scratch", type=Path, help="a new or empty folder, whose path is seen in the pictures")
    asked = parser.parse_args()
    main(asked.folder, asked.scenes or list(SCENES), asked.scratch)
