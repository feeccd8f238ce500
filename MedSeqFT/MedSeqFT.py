"""The 3D Slicer module. Thin by design: what it shows comes from MedSeqFTLib, and opening it imports nothing else."""

import importlib
import sys
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

TUTORIAL_SCANS = 8
WIDEST = 90  # pixels of a column of the foundation models


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
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Adds the scans of the tutorial to the module Sample Data. They are drawn on this computer when asked for."""
    import SampleData

    icon = Path(__file__).resolve().parent / "Resources" / "Icons" / "TutorialScan.png"
    for number in range(1, TUTORIAL_SCANS + 1):
        name = f"TutorialScan{number}"
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="MedSeqFT",
            sampleName=name,
            uris="",
            fileNames=f"{name}.nrrd",
            nodeNames=name,
            thumbnailFileName=str(icon),
            customDownloader=lambda _source, number=number: loadTutorialScan(number),
        )


def loadTutorialScan(number: int) -> list:
    """Draws a scan with its reference segmentation and adds both to the scene; none if a package is missing."""
    nodes = []
    with slicer.util.tryWithErrorDisplay(_("The scan could not be drawn."), waitCursor=True):
        MedSeqFTLogic().libraryVersion()
        nodes = list(importlib.import_module("MedSeqFTLib.scene.panels.tutorial").load_scan(number))
    return nodes


def fitColumns(tree) -> None:
    """The first column gets the room that the others leave, so that nobody scrolls sideways: tooltips tell the rest."""
    for column in range(1, tree.columnCount):
        tree.resizeColumnToContents(column)
        tree.setColumnWidth(column, min(tree.columnWidth(column), WIDEST))
    tree.header().setSectionResizeMode(0, qt.QHeaderView.Stretch)


@parameterNodeWrapper
class MedSeqFTParameterNode:
    """What is saved with the scene. No folder and no job: they belong to the computer and to the workspace."""

    task: str
    volume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    role: Annotated[str, Choice(["train", "validation"])] = "train"
    preset: Annotated[str, Choice(["quick", "balanced", "thorough"])] = "balanced"
    suggestion: Annotated[str, Choice(["lowest confidence", "most unlike", "random"])] = "lowest confidence"
    exportAll: bool = False
    singleModel: bool = False


#: The panels from top to bottom: module below MedSeqFTLib.scene.panels, and class.
PANELS = (
    ("set_up", "SetUpPanel"),
    ("task", "TaskPanel"),
    ("segment", "SegmentPanel"),
    ("correct", "CorrectPanel"),
    ("worklist", "WorklistPanel"),
    ("adapt", "AdaptPanel"),
    ("export", "ExportPanel"),
)


class MedSeqFTWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the .ui, builds the panels of MedSeqFTLib.scene.panels, and binds them to the scene's parameter node."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.panels = []
        self._guiTag = None
        self._task = ""

    def setup(self) -> None:
        """Called once, when the user opens the module for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = MedSeqFTLogic()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedSeqFT.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.foundationCollapsibleButton.connect("contentsCollapsed(bool)", self.onFoundationCollapsed)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.showLibrary()
        if self.logic.libraryFolder():
            self.buildPanels()

    def showLibrary(self) -> None:
        """Which library was found, and where."""
        folder = self.logic.libraryFolder()
        self.ui.versionLabel.text = (
            _("{version} in {folder}").format(version=self.logic.libraryVersion(), folder=folder)
            if folder
            else _("MedSeqFTLib is missing: install the extension again.")
        )

    def buildPanels(self) -> None:
        """Makes the panels; each looks after its own widgets."""
        library = "MedSeqFTLib.scene.panels"
        self.session = importlib.import_module(f"{library}.session").Session(self.logic.getParameterNode())
        for module, name in PANELS:
            panel = getattr(importlib.import_module(f"{library}.{module}"), name)
            self.panels.append(panel(self.ui, self.session))
        self.bind()

    def bind(self) -> None:
        """Binds the widgets to the parameter node of the scene, and lets the panels look."""
        if self._guiTag is None and self.panels:
            self.session.parameters = self.logic.getParameterNode()
            self._guiTag = self.session.parameters.connectGui(self.ui)
            self.addObserver(self.session.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameters)
            for panel in self.panels:
                panel.enter()
            self.session.changed()

    def unbind(self) -> None:
        """The widgets no longer write into the parameter node, nor it into them."""
        if self._guiTag is not None:
            for panel in self.panels:
                panel.exit()
            self.removeObserver(self.session.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameters)
            self.session.parameters.disconnectGui(self._guiTag)
            self._guiTag = None

    def onParameters(self, _caller, _event) -> None:
        """The user, or a panel, has chosen something."""
        self.session.chosen()

    def enter(self) -> None:
        """Called each time the user opens the module."""
        self.bind()

    def exit(self) -> None:
        """Called each time the user leaves for another module. Jobs go on, and are followed."""
        self.unbind()

    def onSceneStartClose(self, _caller, _event) -> None:
        """The parameter node is about to be emptied."""
        if self.panels:
            self._task = self.session.parameters.task
        for panel in self.panels:
            panel.scene_closing()
        self.unbind()

    def onSceneEndClose(self, _caller, _event) -> None:
        """The panels go on with the new, empty scene. Workspace and task stay open, and jobs go on."""
        if self.panels:
            self.session.parameters = self.logic.getParameterNode()
            self.session.parameters.task = self._task
        if self.parent.isEntered:
            self.bind()

    def cleanup(self) -> None:
        """Called when Slicer ends or the module is reloaded."""
        self.unbind()
        for panel in self.panels:
            panel.close()
        if self.panels:
            self.session.close()
        self.removeObservers()

    def onFoundationCollapsed(self, collapsed: bool) -> None:
        """Looks at the catalogue only when somebody wants to see it: opening the module imports nothing."""
        if not collapsed:
            self.showFoundationModels()

    def showFoundationModels(self) -> None:
        """Fills the list. What cannot be used on this computer is greyed out; its tooltip tells why."""
        tree = self.ui.foundationTreeWidget
        tree.clear()
        self.ui.foundationLabel.text = _("Looking...")
        try:
            # It takes half a second to import, and a GPU that sleeps takes seconds to answer.
            waitedFor = importlib.import_module("MedSeqFTLib.scene.panels.background").waited_for
            models = waitedFor(self.logic.foundationModels)
        except ModuleNotFoundError as error:
            missing = _("Slicer's Python has no package {name} yet: press Install packages... in Set-up.")
            self.ui.foundationLabel.text = missing.format(name=error.name)
            return
        for model in models:
            item = qt.QTreeWidgetItem(tree)
            why = "\n".join(model.obstacles)
            for column, text in enumerate((model.title, model.licence, model.size, model.memory)):
                item.setText(column, text)
                item.setToolTip(column, f"{text}\n{why or model.get}")
            item.setDisabled(bool(why))
        fitColumns(tree)
        self.ui.foundationLabel.text = _(
            "{count} models; grey ones do not fit this computer (see the tooltip)."
        ).format(count=len(models))


class MedSeqFTLogic(ScriptedLoadableModuleLogic):
    """Finds the library, and reads the catalogue of foundation models. What the panels do: MedSeqFTLib.scene.logic."""

    def getParameterNode(self):
        """What is saved with the scene, typed."""
        return MedSeqFTParameterNode(super().getParameterNode())

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
        self.assertIn(logic.libraryVersion(), ui.versionLabel.text)
        self.assertIn(str(folder), ui.versionLabel.text)
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
