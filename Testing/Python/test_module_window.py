"""The shipped MedSeqFT.py and its .ui, opened and clicked, and the layer that it runs on."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from slicer_program import MODULE, Window, metadata, scene, window  # noqa: F401

import MedSeqFTLib
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


def test_a_missing_package_is_told(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for name in [name for name in sys.modules if name.startswith("MedSeqFTLib.models.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    window.click(window.ui.foundationCollapsibleButton, y=8)
    assert "pydantic" in window.ui.foundationLabel.text
    assert window.ui.foundationTreeWidget.topLevelItemCount == 0


def test_the_program_and_its_packages_are_told(window: Window) -> None:  # noqa: F811
    assert window.ui.programLabel.text.startswith("Slicer 5.12.4, Python 3.")
    assert window.ui.packagesLabel.text.startswith(f"All {len(needed())} found. ")


def test_missing_packages_are_named_with_the_next_step(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "peft") else find(name))
    window.widget.session.changed()
    assert window.ui.packagesLabel.text.startswith(f"2 of {len(needed())} missing: torch, peft. ")
    assert "extension PyTorch" in window.ui.packagesLabel.text


def needed() -> list[str]:
    """What a start of the command line imports once, after an installation."""
    text = (MODULE.parents[1] / "Resources" / "Requirements" / "runtime.txt").read_text(encoding="utf-8")
    return next(line for line in text.splitlines() if line.startswith("# imports: ")).split()[2:]


def test_the_packages_looked_for_are_those_required(window: Window) -> None:  # noqa: F811
    assert needed() == sys.modules["MedSeqFTLib.scene.panels.packages"].NEEDED


def test_the_module_tells_slicer_what_it_is(window: Window) -> None:  # noqa: F811
    told = metadata(window.module)
    assert (told.title, told.categories) == ("MedSeqFT", ["Segmentation"])
    assert "research only" in told.helpText


def test_the_layer_is_as_strict_as_pythonqt(window: Window) -> None:  # noqa: F811
    label = window.ui.versionLabel
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
