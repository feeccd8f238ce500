"""The module's own test, which Slicer runs with Reload and Test, in the window of the tests."""

from __future__ import annotations

from slicer_program import Window, scene, window  # noqa: F401


def test_the_test_of_the_module_passes(window: Window) -> None:  # noqa: F811
    names = [name for name in dir(window.module.MedSeqFTTest) if name.startswith("test_")]
    assert names
    for name in names:
        case = window.module.MedSeqFTTest(name)
        case.setUp()
        getattr(case, name)()


def test_the_whole_test_of_the_module_passes(window: Window) -> None:  # noqa: F811
    window.module.MedSeqFTTest().runTest()
