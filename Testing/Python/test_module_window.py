"""The shipped MedSeqFT.py and its .ui, opened and clicked, and the layer that it runs on."""

from __future__ import annotations

import sys

import pytest
from pythonqt_layer import inside
from slicer_program import Window, metadata, scene, window  # noqa: F401

import MedSeqFTLib
from MedSeqFTLib.models.availability import choices
from MedSeqFTLib.models.catalogue import catalogue


def test_opening_shows_the_library_and_no_list_yet(window: Window) -> None:  # noqa: F811
    assert window.ui.versionLabel.text.startswith(f"{MedSeqFTLib.__version__} in ")
    assert window.ui.versionLabel.text.endswith("MedSeqFTLib")
    assert window.ui.foundationCollapsibleButton.collapsed
    assert window.ui.foundationTreeWidget.topLevelItemCount == 0


def test_a_click_on_the_bar_lists_the_foundation_models(window: Window) -> None:  # noqa: F811
    window.click(window.ui.foundationCollapsibleButton, y=8)
    tree = window.ui.foundationTreeWidget
    models = catalogue().models
    assert not window.ui.foundationCollapsibleButton.collapsed
    assert tree.visible
    assert [tree.topLevelItem(row).text(0) for row in range(len(models))] == [model.title for model in models]
    assert window.ui.foundationLabel.text.startswith(f"{len(models)} models")


@pytest.mark.parametrize("width", [380, 500, 900])
def test_the_list_fits_its_panel_and_tooltips_tell_the_rest(window: Window, width: int) -> None:  # noqa: F811
    window.frame.resize(width, 1600)
    window.click(window.ui.foundationCollapsibleButton, y=8)
    tree = inside(window.ui.foundationTreeWidget)
    assert tree.horizontalScrollBar().maximum() == 0
    assert all(tree.columnWidth(column) > 30 for column in range(4))
    for row, model in enumerate(choices(catalogue().models)):
        tips = [tree.topLevelItem(row).toolTip(column) for column in range(4)]
        for tip, text in zip(tips, (model.title, model.licence, model.size, model.memory), strict=True):
            assert tip.startswith(f"{text}\n")


def test_a_missing_package_is_told(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for name in [name for name in sys.modules if name.startswith("MedSeqFTLib.models.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    window.click(window.ui.foundationCollapsibleButton, y=8)
    assert "pydantic yet: press Install packages..." in window.ui.foundationLabel.text
    assert window.ui.foundationTreeWidget.topLevelItemCount == 0


def test_the_module_tells_slicer_what_it_is(window: Window) -> None:  # noqa: F811
    told = metadata(window.module)
    assert (told.title, told.categories) == ("MedSeqFT", ["Segmentation"])
    assert "research only" in told.helpText


def test_the_layer_is_as_strict_as_pythonqt(window: Window) -> None:  # noqa: F811
    label = window.ui.workspaceLabel
    with pytest.raises(AttributeError, match="txt"):
        label.txt = "misspelt"
    with pytest.raises(AttributeError, match="setTxt"):
        label.setTxt("misspelt")
    with pytest.raises(TypeError):
        label.text()  # a value, not a method
    with pytest.raises(AttributeError, match="no signal"):
        label.connect("clicked(bool)", print)
    label.setText("a setter works")
    assert label.text == "a setter works"
    assert label.isEnabled()
    assert isinstance(window.ui.foundationTreeWidget.selectionMode, int)
