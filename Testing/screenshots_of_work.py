"""Pictures of the panels with which a person works, in their states, light and dark, without the Slicer program.

    python Testing/screenshots_of_work.py FOLDER

Trains a tiny model first, and takes about two minutes. What the pictures show is real, apart from the Segment Editor,
for which a line stands, and the frame around the panels, which is Qt's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent / "Python"), str(Path(__file__).resolve().parents[1])]

import psutil  # noqa: E402
import pytest  # noqa: E402
from correcting_samples import add_proposal, add_scan, edit, open_workspace  # noqa: E402
from learning_samples import ball_scan  # noqa: E402
from panel_samples import adapted_workspace, copied, end_workers  # noqa: E402
from PySide6 import QtWidgets  # noqa: E402
from screenshots import palette  # noqa: E402
from slicer_boot import boot  # noqa: E402
from slicer_program import Window, running  # noqa: E402

from MedSeqFTLib.workspace.workspace import Workspace  # noqa: E402

FOLDED = ("setUp", "task", "adapt", "export", "foundation")


class Story:
    """What a person does; a picture is taken of each state."""

    def __init__(self, window: Window, workspace: Workspace, folder: Path, shade: str) -> None:
        self.window, self.ui, self.workspace, self.folder, self.shade = window, window.ui, workspace, folder, shade

    def shoot(self, state: str) -> None:
        picture(self.window, self.folder / f"work-{state}-{self.shade}.png")

    def tell(self) -> None:
        self.shoot("empty")
        self.session = open_workspace(self.window, self.workspace)
        self.window.click(self.ui.worklistCollapsibleButton, y=8)
        volumes = [add_scan(seed, f"CT-Thorax-{seed}") for seed in (17, 18, 19)]
        add_proposal(self.workspace, volumes[1], ball_scan(18)[1], "CT-Thorax-18", confidence=0.71)
        self.session.parameters.volume = volumes[0]
        self.shoot("ready")
        self.segment()
        self.correct(volumes[0])
        self.fail(volumes[2])

    def segment(self) -> None:
        self.window.click(self.ui.segmentButton)
        self.shoot("running")
        self.window.wait_until(lambda: self.ui.segmentButton.text == "Segment", 120)
        self.shoot("segmented")

    def correct(self, volume: object) -> None:
        edit(self.session.parameters.segmentation, volume)
        self.window.click(self.ui.acceptButton)
        self.shoot("storing")
        self.window.wait_until(lambda: "is stored" in self.ui.storingLabel.text, 60)
        self.window.click(self.ui.suggestButton)
        self.shoot("stored")

    def fail(self, volume: object) -> None:
        """Both workers die."""
        self.session.parameters.volume = volume
        self.window.click(self.ui.newSegmentationButton)
        self.shoot("nothing-drawn")
        self.session.parameters.segmentation = None
        self.window.click(self.ui.segmentButton)
        (job,) = self.session.logic.segmenting()
        self.window.wait_until(lambda: job.poll() is not None and job.progress.starts, 60)
        psutil.Process(job.folder.process().pid).kill()
        self.window.wait_until(lambda: self.ui.segmentResumeButton.visible, 60)
        self.shoot("failed")


def picture(window: Window, path: Path) -> None:
    """Only the panels that are worked with are unfolded."""
    for name in FOLDED:
        getattr(window.ui, f"{name}CollapsibleButton").collapsed = True
    window.frame.resize(460, 1000)
    for _ in range(5):
        QtWidgets.QApplication.processEvents()
    if not window.frame.grab().save(str(path)):
        raise SystemExit(f"{path} cannot be written.")


def main(folder: Path) -> None:
    """The story twice, in light and in dark."""
    folder.mkdir(parents=True, exist_ok=True)
    application = QtWidgets.QApplication([])
    application.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as temporary:
        trained = adapted_workspace(Path(temporary))
        for shade in ("light", "dark"):
            application.setPalette(palette(shade == "dark"))
            workspace = copied(trained, Path(temporary) / shade)
            with pytest.MonkeyPatch.context() as patch:
                boot(patch)
                with running(patch) as program:
                    window = Window(program.dialogs, program.installers, program.raised)
                    Story(window, workspace, folder, shade).tell()
                    window.close()
            end_workers(workspace)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
