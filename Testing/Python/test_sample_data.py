"""The scans of the tutorial, registered with a recording stand-in for Slicer's module Sample Data."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PySide6 import QtCore
from slicer_program import Window, metadata, scene, window  # noqa: F401
from slicer_samples import slicer

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.scene import sample_data


class RecordingSampleData:
    """A fake: the real one is a module of the Slicer program."""

    def __init__(self) -> None:
        self.sources: list[dict[str, Any]] = []

    def registerCustomSampleDataSource(self, **source: Any) -> None:  # noqa: N802
        self.sources.append(source)


@pytest.fixture
def sources(window: Window, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:  # noqa: F811
    """What the module registers when Slicer has started."""
    recorder = RecordingSampleData()
    fake = ModuleType("SampleData")
    fake.SampleDataLogic = recorder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", fake)
    metadata(window.module)
    ((signal, register),) = slicer.app.connections
    assert signal == "startupCompleted()"
    assert recorder.sources == []
    register()
    return recorder.sources


def test_the_scans_are_offered_with_a_picture(sources: list[dict[str, Any]]) -> None:
    assert [source["sampleName"] for source in sources] == [f"TutorialScan{number}" for number in range(1, 9)]
    assert {source["category"] for source in sources} == {"MedSeqFT"}
    assert all(Path(source["thumbnailFileName"]).is_file() for source in sources)


def test_a_scan_comes_with_its_reference(sources: list[dict[str, Any]]) -> None:
    volume, segmentation = sources[1]["customDownloader"](sources[1])
    assert (volume.GetName(), segmentation.GetName()) == ("TutorialScan2", "TutorialScan2 reference")
    names = [segment.GetName() for segment in map(segmentation.GetSegmentation().GetNthSegment, range(3))]
    assert names == ["grey matter", "white matter", "cerebrospinal fluid"]
    again, _ = sources[1]["customDownloader"](sources[1])
    other, _ = sources[2]["customDownloader"](sources[2])
    first, second, third = map(slicer.util.arrayFromVolume, (volume, again, other))
    assert np.array_equal(first, second)
    assert first.shape != third.shape or not np.array_equal(first, third)


@pytest.mark.parametrize("missing", ["nilearn", "scipy"])
def test_a_missing_package_is_installed_from_set_up(
    window: Window,  # noqa: F811
    sources: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    """Not with pip, as the library says at a command line."""
    for module in ("MedSeqFTLib.imaging.anatomy", "MedSeqFTLib.imaging.cohort", "MedSeqFTLib.scene.sample_data"):
        monkeypatch.delitem(sys.modules, module, raising=False)  # as after a start: imported when it is needed
    monkeypatch.setitem(sys.modules, missing, None)
    advice = f"has no package {missing} yet: open the module MedSeqFT, and press Install packages... in Set-up"
    window.dialogs.expect(advice)
    with pytest.raises(InputError, match=re.escape(advice)):  # in a test, Slicer also raises what it shows
        sources[0]["customDownloader"](sources[0])


def test_the_window_lives_while_a_scan_is_drawn(sources: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    ticked, really = threading.Event(), sample_data.draw_scan
    timer = QtCore.QTimer()
    timer.timeout.connect(ticked.set)
    timer.start(5)

    def drawn(number: int) -> Any:
        threads.append(threading.current_thread())
        assert ticked.wait(20)  # set by the main thread, which waits for the scan
        return really(number)

    monkeypatch.setattr(sample_data, "draw_scan", drawn)
    assert len(sources[0]["customDownloader"](sources[0])) == 2
    assert threads and threading.main_thread() not in threads
