"""Pictures of the panels Adapt and Export in their states, light and dark, with real workers on tiny scans.

    python Testing/screenshots_adapt_export.py FOLDER

Needs what the tests need.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent / "Python"), str(Path(__file__).resolve().parents[1])]
os.environ["QT_QPA_PLATFORM"] = "offscreen"

import psutil  # noqa: E402
import pytest  # noqa: E402
from learning_samples import TINY, Role, add_balls, ball_task  # noqa: E402
from panel_samples import adapted_workspace, copied, end_workers, runner_of, show  # noqa: E402
from PySide6 import QtWidgets  # noqa: E402
from pythonqt_layer import inside  # noqa: E402
from screenshots import palette  # noqa: E402
from slicer_boot import boot  # noqa: E402
from slicer_program import Window, running  # noqa: E402

from MedSeqFTLib.jobs import control  # noqa: E402
from MedSeqFTLib.learning import settings  # noqa: E402
from MedSeqFTLib.workspace.workspace import Workspace  # noqa: E402

Save = Callable[[str, str], None]  # a panel, and its state


def adapt_before(window: Window, workspace: Workspace, folder: Path, save: Save) -> None:
    """Nothing accepted yet; and ready."""
    empty = Workspace.create(folder / "empty")
    empty.add_task(ball_task())
    show(window, empty)
    save("adapt", "empty")
    show(window, empty, panel="export")
    save("export", "empty")
    ui = show(window, workspace)
    window.wait_until(lambda: "looking" not in ui.adaptPreflightLabel.text)
    save("adapt", "ready")


def adapt_stopped(window: Window, workspace: Workspace, save: Save) -> None:
    """Running, and its worker killed; with a runner that goes on for minutes."""
    ui = show(window, workspace)
    with pytest.MonkeyPatch.context() as patch:
        runner_of(patch, "job_runners:slow")
        window.click(ui.adaptButton)
        window.wait_until(lambda: "left" in ui.adaptProgressLabel.text)
        save("adapt", "running")
        worker = control.running_job(workspace).process()  # type: ignore[union-attr]
        psutil.Process(worker.pid).kill()  # type: ignore[union-attr]
        window.wait_until(lambda: ui.adaptResumeButton.visible)
        save("adapt", "failed")


def adapt_finished(window: Window, workspace: Workspace, save: Save) -> None:
    """A real adaptation, after one before."""
    ui = show(window, workspace)
    window.choose(ui.adaptPresetComboBox, "quick")
    window.click(ui.adaptButton)
    window.wait_until(lambda: ui.adaptVerdictLabel.text.startswith("M2"), 120)
    window.wait_until(lambda: ui.adaptButton.text == "Adapt")
    save("adapt", "finished")


def export(window: Window, workspace: Workspace, folder: Path, save: Save) -> None:
    """Ready, and finished."""
    (folder / "results").mkdir()
    ui = show(window, workspace, panel="export")
    ui.exportDirectoryButton.directory = str(folder / "results")
    inside(ui.exportListWidget).selectAll()
    save("export", "ready")
    for button, text in ((ui.exportButton, "Export"), (ui.reportButton, "Report")):
        window.click(button)
        window.wait_until(lambda button=button, text=text: button.text == text and button.enabled, 60)
    save("export", "finished")


def take(window: Window, adapted: Workspace, folder: Path, save: Save) -> None:
    """All states."""
    workspace = copied(adapted, folder)
    add_balls(workspace, folder, workspace.task("balls"), range(50, 51), Role.TRAIN)
    try:
        adapt_before(window, workspace, folder, save)
        adapt_stopped(window, workspace, save)
        adapt_finished(window, workspace, save)
        export(window, workspace, folder, save)
    finally:
        end_workers(workspace)


def main(target: Path) -> None:
    """Light and dark."""
    target.mkdir(parents=True, exist_ok=True)
    application = QtWidgets.QApplication([])
    application.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setitem(settings.PRESETS, "quick", TINY)
        boot(patch)
        adapted = adapted_workspace(Path(name))
        with running(patch) as found:
            for shade in ("light", "dark"):
                application.setPalette(palette(shade == "dark"))
                window = Window(found.dialogs, found.installers, found.raised)

                def save(panel: str, state: str, window: Window = window, shade: str = shade) -> None:
                    application.processEvents()
                    widget = inside(getattr(window.ui, f"{panel}CollapsibleButton"))
                    widget.grab().save(str(target / f"{panel}-{state}-{shade}.png"))

                (Path(name) / shade).mkdir()
                take(window, adapted, Path(name) / shade, save)
                window.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
