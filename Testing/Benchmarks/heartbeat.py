"""Is the window alive while a model is adapted? The panels, offscreen, over a whole adaptation in a real worker.

A timer of 10 ms ticks on the main thread; the longest gap between two ticks is how long the window was blocked. Other
programs on the computer cause gaps, too: so the same is measured without a job, and the longest computing of the main
thread between two ticks is told beside. Needs slicer-core and PySide6.

Then what a person does in a workspace of many cases, and with one large scan, each act by itself.

Run: python Testing/Benchmarks/heartbeat.py [--steps 60] [--cases 10000] [--size 512 512 300] [--only heavy]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from common import smooth_scan
from learning_samples import TINY, Role, add_balls
from many_cases import TASK, a_case, make, put
from panel_samples import adapted_workspace, show
from PySide6 import QtCore, QtWidgets
from scene_speed import LABELS, organs
from slicer_boot import boot
from slicer_program import Window, running

from MedSeqFTLib.learning import settings
from MedSeqFTLib.scene.marks import is_on_disk, set_edited
from MedSeqFTLib.scene.placing import add_segmentation
from MedSeqFTLib.scene.volumes import add_volume
from MedSeqFTLib.workspace import schema
from MedSeqFTLib.workspace.schema import Modality, Task
from MedSeqFTLib.workspace.workspace import Workspace

BEAT = 10  # milliseconds
LONGEST, MOST = 0.1, 0.01  # seconds between two ticks; share of a core
QUIET = 5.0  # seconds without a job, for comparison


@dataclass
class Heartbeat:
    """Ticks of a timer: the seconds between them, and how many of these the main thread computed."""

    gaps: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._last, self._computed = time.perf_counter(), time.thread_time()
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(BEAT)

    def _tick(self) -> None:
        now, computed = time.perf_counter(), time.thread_time()
        self.gaps.append((now - self._last, computed - self._computed))
        self._last, self._computed = now, computed

    def stop(self) -> None:
        self._timer.stop()
        self._tick()  # what blocked last may have ended the loop before a tick

    @property
    def longest(self) -> float:
        return max(gap for gap, _ in self.gaps)

    @property
    def longest_computing(self) -> float:
        return max(computing for _, computing in self.gaps)


@dataclass
class Polling:
    """What the looks at the job cost."""

    times: list[float] = field(default_factory=list)

    @contextmanager
    def measured(self, kind: Any) -> Iterator[None]:
        """Measure each call of `kind._look`."""
        look = kind._look

        def timed(watch: Any) -> None:
            before = time.thread_time()
            look(watch)
            self.times.append(time.thread_time() - before)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "_look", timed)
            yield


def live(until: Callable[[], bool]) -> Heartbeat:
    """Run Qt's event loop, with a heartbeat, until the condition holds."""
    beat, loop, timer = Heartbeat(), QtCore.QEventLoop(), QtCore.QTimer()
    timer.timeout.connect(lambda: loop.quit() if until() else None)
    timer.start(50)
    loop.exec()
    timer.stop()
    beat.stop()
    return beat


def quiet() -> Heartbeat:
    end = time.monotonic() + QUIET
    return live(lambda: time.monotonic() > end)


def adaptation(window: Window, workspace: Workspace) -> tuple[Heartbeat, float]:
    """From the click on Adapt to the tables, with the plot shown. Returns also the seconds."""
    ui = show(window, workspace)
    window.choose(ui.adaptPresetComboBox, "quick")
    window.choose(ui.adaptPlotComboBox, "losses")
    QtCore.QTimer.singleShot(200, lambda: window.click(ui.adaptButton))
    began = time.monotonic()
    beat = live(lambda: "M2 is" in str(ui.adaptVerdictLabel.text) and ui.adaptButton.text == "Adapt")
    return beat, time.monotonic() - began


# heavy acts


@dataclass
class Acts:
    """Does one act after another, with a heartbeat until its condition holds."""

    window: Window

    def beat(self, name: str, act: Callable[[], object], until: Callable[[], object] = lambda: True) -> None:
        done: list[float] = []
        acted: list[float] = []

        def do() -> None:
            acted.append(time.monotonic())
            act()

        def ended() -> bool:
            if acted and not done and until():
                done.append(time.monotonic() - acted[0])
            return bool(done) and time.monotonic() > acted[0] + 0.5

        QtCore.QTimer.singleShot(50, do)
        beat = live(ended)
        computing = f"computing {milliseconds(beat.longest_computing)}"
        tell(name, milliseconds(beat.longest), f"{computing:22s}done in {done[0]:.2f} s")
        assert not self.window.raised, self.window.raised
        assert done[0] < 300


def many_cases(window: Window, folder: Path, count: int) -> None:
    """Opening it, a change of a parameter, a search, and what another process has added."""
    workspace, does, ui = make(folder, count), Acts(window), window.ui
    session = window.widget.session
    for name in ("worklist", "adapt", "export"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = False
    session.parameters.task = TASK
    for name in importlib.import_module("MedSeqFTLib.scene.panels.opening").LIBRARY:  # on a thread, where it opens one
        importlib.import_module(f"MedSeqFTLib.{name}")

    def shown() -> bool:
        return session.is_read and bool(ui.worklistTableWidget.rowCount)

    time.sleep(3)  # files that were written just now are read again in any case
    does.beat(f"open a workspace of {count} cases", lambda: session.use(Workspace.open(workspace.folder)), shown)
    for _round in range(2):
        does.beat("  a parameter changes", lambda: setattr(session.parameters, "role", other(session.parameters.role)))
    does.beat("  search", lambda: setattr(ui.worklistSearchLineEdit, "text", "case-0777"))
    does.beat("  search what can be exported", lambda: setattr(ui.exportSearchLineEdit, "text", "case-0777"))
    ui.exportSearchLineEdit.text = ""
    for method in ("lowest confidence", "most unlike"):
        session.parameters.suggestion = method
        does.beat(f"  suggest: {method}", lambda: window.click(ui.suggestButton), lambda: ui.suggestButton.enabled)
    does.beat("  all is to be exported", lambda: setattr(ui.exportAllCheckBox, "checked", True))
    accepted = a_case("another", "f" * 64)
    put(workspace.folder / "cases" / TASK / "another", folder / "shared", accepted)
    more = str(count + count // 10 + 1)
    does.beat("  another process has added a case", session.changed, lambda: more in ui.exportStateLabel.text)
    session.use(None)


def large_case(window: Window, folder: Path, size: tuple[int, int, int]) -> None:
    """Choosing a scan with 14 labels, accepting it, and opening it again; kept edits, and a proposal, too."""
    workspace, does, ui, session = organs_workspace(folder), Acts(window), window.ui, window.widget.session
    session.use(workspace)
    session.parameters.task = "organs"
    ui.worklistCollapsibleButton.collapsed = False
    drawn = organs_in_scene(size)

    def storing() -> bool:
        return "Being stored" in ui.storingLabel.text

    def opened() -> object:
        return session.parameters.segmentation is not None and ui.openButton.enabled

    def open_first() -> None:
        ui.worklistTableWidget.selectRow(0)
        window.click(ui.openButton)

    does.beat(f"choose a scan of {size} voxels", lambda: setattr(session.parameters, "segmentation", drawn))
    does.beat("  accept it, until one may go on", lambda: window.click(ui.acceptButton), storing)
    does.beat("  until it is filed", lambda: None, lambda: not storing())
    clear_scene(session)
    does.beat("  open it again", open_first, opened)
    edited = session.parameters.segmentation
    set_edited(edited, True)
    leave = partial(setattr, session.parameters, "segmentation", None)
    does.beat("  leave it, edited, until it is on the disk", leave, lambda: is_on_disk(edited))
    clear_scene(session)
    does.beat("  open it as it was left", open_first, opened)
    set_edited(session.parameters.segmentation, True)
    does.beat("  close the scene (our part), edited", partial(closing, window), lambda: not session.keeping.is_active)
    session.use(None)


def organs_workspace(folder: Path) -> Workspace:
    workspace = Workspace.create(folder / "workspace")
    workspace.add_task(Task(name="organs", modality=Modality.CT, labels=LABELS, intensity=schema.Window()))
    return workspace


def organs_in_scene(size: tuple[int, int, int]) -> Any:
    """A scan in the scene, and its segmentation, which is returned."""
    x, y, z = size
    voxels = np.resize(smooth_scan((64, y, x)), (z, y, x))
    volume = add_volume(slicer.mrmlScene, sitk.GetImageFromArray(voxels), "scan")
    return add_segmentation(volume, sitk.GetImageFromArray(organs((z, y, x))), LABELS, "drawn")


def closing(window: Window) -> None:
    """What the module does when a scene is closed. What Slicer itself does, which takes seconds, is not measured."""
    window.widget.onSceneStartClose(None, None)
    window.widget.onSceneEndClose(None, None)


def clear_scene(session: Any) -> None:
    """What is in it is no longer chosen, then removed."""
    session.parameters.volume = session.parameters.segmentation = None
    for kind in ("vtkMRMLSegmentationNode", "vtkMRMLScalarVolumeNode"):
        for node in slicer.util.getNodesByClass(kind):
            slicer.mrmlScene.RemoveNode(node)
    session.changed()


def other(role: str) -> str:
    return "validation" if role == "train" else "train"


def tell(name: str, value: str, bar: str = "") -> None:
    print(f"{name:48s}{value:>12s}  {bar}")


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def acts(doing: Callable[[Window, Path], None]) -> None:
    """Do them in a window of their own, and print how long each blocks it."""
    QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        boot(patch)
        with running(patch) as found:
            window = Window(found.dialogs, found.installers, found.raised)
            doing(window, Path(name))
            window.close()


def main(steps: int) -> bool:
    """Measure and print. Returns whether both bars are kept."""
    QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        workspace = adapted_workspace(folder)
        add_balls(workspace, folder, workspace.task("balls"), range(50, 51), Role.TRAIN)
        patch.setitem(settings.PRESETS, "quick", {**TINY, "stage_a_steps": str(steps), "stage_b_steps": str(steps)})
        boot(patch)
        with running(patch) as found:
            polling = Polling()
            with polling.measured(importlib.import_module("MedSeqFTLib.scene.panels.job_watch").JobWatch):
                window = Window(found.dialogs, found.installers, found.raised)
                still = quiet()
                beat, seconds = adaptation(window, workspace)
                window.close()
    share = sum(polling.times) / seconds
    tell("longest gap without a job", milliseconds(still.longest))
    tell(
        f"longest gap in an adaptation of {seconds:.0f} s", milliseconds(beat.longest), f"bar: {milliseconds(LONGEST)}"
    )
    tell("longest computing between two ticks", milliseconds(beat.longest_computing))
    tell(f"mean of {len(polling.times)} looks at the job", milliseconds(sum(polling.times) / len(polling.times)))
    tell("share of a core that they take", f"{100 * share:.2f} %", f"bar: {100 * MOST:.0f} %")
    return beat.longest < LONGEST and share < MOST


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60, help="of each stage")
    parser.add_argument("--cases", type=int, default=10_000, help="of a large workspace")
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 300), help="of a large scan: voxels x, y, z")
    parser.add_argument("--only", choices=("adaptation", "heavy", "large"))
    asked = parser.parse_args()
    kept = True
    if asked.only in (None, "adaptation"):
        kept = main(asked.steps)
    if asked.only in (None, "heavy"):
        acts(lambda window, folder: many_cases(window, folder, asked.cases))
    if asked.only in (None, "large"):
        acts(lambda window, folder: large_case(window, folder, tuple(asked.size)))
    sys.exit(0 if kept else 1)
