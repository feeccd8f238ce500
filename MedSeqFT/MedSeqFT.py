"""The 3D Slicer module. Thin by design: what it shows comes from MedSeqFTLib, and opening it imports nothing else."""

import importlib
import os
import sys
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class MedSeqFT(ScriptedLoadableModule):
    """What the module selector and the help section show."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "MedSeqFT"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["MedSeqFT contributors"]
        self.parent.helpText = _(
            "Adapts a segmentation foundation model to one task after another, without forgetting earlier tasks. "
            "Not a medical device: for research only. The method follows {link}; what is known of it, and which "
            "choices are this program's own, is written in docs/method.md."
        ).format(link='<a href="https://arxiv.org/abs/2509.06096">arXiv 2509.06096</a>')
        self.parent.acknowledgementText = _("Licensed under the Apache License 2.0.")


class MedSeqFTWidget(ScriptedLoadableModuleWidget):
    """Shows which library was found, how to run it, and which foundation models there are."""

    def setup(self) -> None:
        """Called once, when the user opens the module for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = MedSeqFTLogic()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedSeqFT.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.foundationCollapsibleButton.connect("contentsCollapsed(bool)", self.onFoundationCollapsed)
        self.showState()

    def showState(self) -> None:
        """Fills the panel from the logic."""
        folder, command = self.logic.libraryFolder(), self.logic.commandLine()
        self.ui.versionLabel.text = self.logic.libraryVersion() or _("not found")
        self.ui.folderLabel.text = str(folder) if folder else _("MedSeqFTLib is missing: install the extension again.")
        self.showSystem(folder is not None)
        self.ui.commandLineEdit.text = command or ""
        self.ui.commandLineEdit.visible = command is not None
        self.ui.commandLabel.text = (
            _("In a terminal, with Python 3.10 to 3.12 (not Slicer's own):")
            if command
            else _("The command line is part of the sources, not of this installation.")
        )

    def showSystem(self, libraryFound: bool) -> None:
        """The program and the packages that it lacks; says nothing without the library."""
        if libraryFound:
            panel = importlib.import_module("MedSeqFTLib.scene.panels.system").SystemPanel(self.ui)
            panel.show()

    def onFoundationCollapsed(self, collapsed: bool) -> None:
        """Looks at the catalogue only when somebody wants to see it: opening the module imports nothing."""
        if not collapsed:
            self.showFoundationModels()

    def showFoundationModels(self) -> None:
        """Fills the list. What cannot be used on this computer is greyed out; its tooltip tells why."""
        tree = self.ui.foundationTreeWidget
        tree.clear()
        try:
            models = self.logic.foundationModels()
        except ModuleNotFoundError as error:
            missing = _("Slicer's Python has no package {name} yet; the command line lists the models, too.")
            self.ui.foundationLabel.text = missing.format(name=error.name)
            return
        for model in models:
            item = qt.QTreeWidgetItem(tree)
            for column, text in enumerate((model.title, model.licence, model.size, model.memory)):
                item.setText(column, text)
            why = "\n".join(model.obstacles)
            item.setToolTip(0, why or model.get)
            item.setDisabled(bool(why))
        tree.resizeColumnToContents(0)
        self.ui.foundationLabel.text = _(
            "{count} models; grey ones do not fit this computer (see the tooltip)."
        ).format(count=len(models))


class MedSeqFTLogic(ScriptedLoadableModuleLogic):
    """Finds the library and the launcher, and reads the catalogue of foundation models. Needs no user interface."""

    def libraryFolder(self) -> Path | None:
        """The folder MedSeqFTLib: beside this file when installed, one level up in the sources. None if missing."""
        here = Path(__file__).resolve().parent
        candidates = (here / "MedSeqFTLib", here.parent / "MedSeqFTLib")
        return next((folder for folder in candidates if (folder / "__init__.py").is_file()), None)

    def libraryVersion(self) -> str | None:
        """The version of the library, made importable where it lies. None if it is missing."""
        folder = self.libraryFolder()
        if folder is None:
            return None
        if str(folder.parent) not in sys.path:
            sys.path.append(str(folder.parent))
        return str(importlib.import_module("MedSeqFTLib").__version__)

    def foundationModels(self) -> list:
        """What a person sees of every model of the catalogue (MedSeqFTLib.models.availability.Choice).

        Raises ModuleNotFoundError if Slicer's Python lacks a package that the library needs.
        """
        self.libraryVersion()
        models = importlib.import_module("MedSeqFTLib.models.catalogue").catalogue().models
        return importlib.import_module("MedSeqFTLib.models.availability").choices(models)

    def commandLine(self) -> str | None:
        """What to type to use the command line. None in an installation, which has no launcher."""
        folder = self.libraryFolder()
        launcher = folder.parent / "run.py" if folder else None
        python = "py" if os.name == "nt" else "python3"
        return f'{python} "{launcher}" --help' if launcher and launcher.is_file() else None


class MedSeqFTTest(ScriptedLoadableModuleTest):
    """Run by the button Reload and Test, and by ctest."""

    def setUp(self):
        """Starts from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Runs all tests of the module."""
        self.setUp()
        self.test_opening_imports_no_model_library()
        self.test_panel_shows_the_library_that_was_found()
        self.test_foundation_models_are_listed_or_the_reason_is_told()

    def test_opening_imports_no_model_library(self):
        """Opening the module must work in a Slicer without PyTorch, and must not cost its start-up time."""
        before = set(sys.modules)
        slicer.util.selectModule("MedSeqFT")
        added = {name.partition(".")[0] for name in set(sys.modules) - before}
        self.assertFalse(added & {"torch", "monai", "peft", "transformers", "pydantic", "typer"})

    def test_panel_shows_the_library_that_was_found(self):
        """The panel and the library's own file agree."""
        logic = MedSeqFTLogic()
        folder = logic.libraryFolder()
        self.assertIsNotNone(folder)
        self.assertIn(f'__version__ = "{logic.libraryVersion()}"', (folder / "__init__.py").read_text(encoding="utf-8"))
        ui = slicer.modules.medseqft.widgetRepresentation().self().ui
        self.assertEqual(ui.versionLabel.text, logic.libraryVersion())
        self.assertEqual(ui.folderLabel.text, str(folder))
        self.assertIn(slicer.app.applicationVersion, ui.programLabel.text)
        self.assertTrue(ui.packagesLabel.text)

    def test_foundation_models_are_listed_or_the_reason_is_told(self):
        """With the library's packages there is a row for each model; without them a sentence."""
        widget = slicer.modules.medseqft.widgetRepresentation().self()
        widget.showFoundationModels()
        self.assertTrue(widget.ui.foundationLabel.text)
        try:
            models = widget.logic.foundationModels()
        except ModuleNotFoundError as error:
            self.assertIn(error.name, widget.ui.foundationLabel.text)
            return
        self.assertEqual(widget.ui.foundationTreeWidget.topLevelItemCount, len(models))
