"""Two versions of a model on one volume: both results beside it, and the Dice between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.scene.panels.background import Background
from MedSeqFTLib.scene.panels.job_watch import JobWatch, JobWidgets
from MedSeqFTLib.scene.panels.session import Session
from MedSeqFTLib.scene.panels.tables import fill, fit_height

if TYPE_CHECKING:
    from MedSeqFTLib.jobs.following import Following
    from MedSeqFTLib.scene.proposals import SegmentingJob, StoredProposal
    from MedSeqFTLib.workspace.schema import Label, Segmentation
    from MedSeqFTLib.workspace.workspace import Workspace

Agreements = list[tuple["Label", "float | None"]]


VIEWS = ("Red", "Yellow")


class Comparison:
    """Segments the session's volume with one version, then with the other; then shows both."""

    def __init__(self, ui: Any, session: Session) -> None:
        """Connect the widgets."""
        self.ui, self._session = ui, session
        self._background = Background()
        self._jobs: list[SegmentingJob] = []  # what was started, at most two
        self._reference: Any = None  # to the volume; weak, for the scene may be closed meanwhile
        self._start_second: Callable[[], SegmentingJob] | None = None
        widgets = JobWidgets(ui.compareButton, ui.compareBar, ui.compareLabel, ui.compareResumeButton)
        self._watch = JobWatch(widgets, self._start, self._resume, self._finished)
        ui.compareTable.visible = False

    def show(self, versions: list[str], current: str, task: str) -> None:
        """Offer the versions that can segment the task, and by default the current (or first) and the newest other."""
        first = current if current in versions else next(iter(versions), "")
        others = [version for version in versions if version != first]
        _offer(self.ui.compareFirstComboBox, versions, first)
        _offer(self.ui.compareSecondComboBox, versions, others[-1] if others else "")
        volume = self._session.parameters.volume
        name = volume.GetName() if volume is not None else ""
        self._watch.offer(
            self._obstacle(versions, name, task),
            _("Segments {volume} with both versions, and shows where they differ.").format(volume=name),
        )

    def close(self) -> None:
        """The window is going; a job goes on."""
        self._watch.close()
        self._background.close()

    def _obstacle(self, versions: list[str], volume: str, task: str) -> str:
        if len(versions) < 2:
            return _("{task} has fewer than two versions to compare; adapt first.").format(task=task)
        if not volume:
            return _("Choose a volume in Segment first.")
        if self._chosen()[0] == self._chosen()[1]:
            return _("Choose two different versions.")
        return _("The results are being compared.") if self._background.is_active else ""

    def _chosen(self) -> tuple[str, str]:
        return str(self.ui.compareFirstComboBox.currentText), str(self.ui.compareSecondComboBox.currentText)

    def _start(self) -> Following:
        from MedSeqFTLib.scene.observers import weak

        logic, task, volume = self._session.logic, self._session.task, self._session.parameters.volume
        if logic is None or volume is None:
            raise InputError(_("Choose a volume in Segment first."))
        first, second = self._chosen()
        self.ui.compareTable.visible = False
        self._reference = weak(volume)
        self._jobs = [logic.segment(task, volume, version=first)]
        self._start_second = lambda: logic.segment(task, self._volume(), version=second)
        return self._jobs[0]

    def _resume(self, job: Following) -> Following:
        """The same job under a new worker; its volume must still be there."""
        from MedSeqFTLib.scene.proposals import SegmentingJob

        logic = self._session.logic
        assert logic is not None
        volume = self._volume()  # first, so that nothing is resumed for a volume that is gone
        self._jobs[-1] = SegmentingJob(logic.resume(job.folder.id).folder, logic.workspace, volume)
        return self._jobs[-1]

    def _volume(self) -> Any:
        volume = self._reference.Get()
        if volume is None or volume.GetScene() is None:
            raise InputError(
                _(
                    "The volume is no longer in the scene; what was segmented is kept in the workspace. Load the "
                    "volume, choose it in Segment, and compare again."
                )
            )
        return volume

    def _finished(self, _job: Following) -> None:
        if self._start_second is not None:
            start, self._start_second = self._start_second, None
            self._jobs.append(start())
            self._watch.follow(self._jobs[-1])
            return
        jobs = list(self._jobs)
        self._background.run(lambda: [job.read() for job in jobs], self._show_both, self._session.changed)
        self._watch.offer(_("The results are being compared."))

    def _show_both(self, stored: list[StoredProposal]) -> None:
        from MedSeqFTLib.workspace.schema import Segmentation

        logic = self._session.logic
        assert logic is not None
        nodes = [job.load(found) for job, found in zip(self._jobs, stored, strict=True)]
        place_side_by_side(self._volume(), nodes)
        records = [job.result(Segmentation) for job in self._jobs]
        self.ui.compareLabel.text = _("Comparing the voxels...")
        self._background.run(lambda: agreement(logic.workspace, records), self._tell)

    def _tell(self, found: Agreements) -> None:
        first, second = (str(job.folder.job.settings["version"]) for job in self._jobs)
        ui = self.ui
        rows = [(label.name, _("neither has it") if dice is None else f"{dice:.3f}") for label, dice in found]
        fill(ui.compareTable, (_("Label"), _("Dice")), rows)
        fit_height(ui.compareTable, 8)
        ui.compareTable.visible = True
        ui.compareLabel.text = _(
            "{first} is shown on the left, {second} on the right: two new segmentations. Dice between them, 1 where "
            "they agree:"
        ).format(first=first, second=second)
        self._session.changed()


def _offer(combo: Any, versions: list[str], wanted: str) -> None:
    """Keep what the user chose, as long as it exists; of a single version nothing was chosen."""
    present = [str(combo.itemText(index)) for index in range(combo.count)]
    if present == versions:
        return
    chosen = str(combo.currentText)
    combo.blockSignals(True)
    combo.clear()
    combo.addItems(versions)
    keep = chosen if chosen in versions and len(present) > 1 else wanted
    combo.setCurrentIndex(versions.index(keep) if keep in versions else len(versions) - 1)
    combo.blockSignals(False)


def agreement(workspace: Workspace, records: list[Segmentation]) -> Agreements:
    """Dice between two stored segmentations of one volume, per label of the task; None where neither has a voxel.

    Raises WorkspaceError if a stored file is damaged.
    """
    import SimpleITK as sitk

    from MedSeqFTLib.imaging.correction import dice
    from MedSeqFTLib.imaging.segmentations import read_label_map
    from MedSeqFTLib.workspace.segmentations import verify_segmentation

    labels = workspace.task(records[0].task).labels
    first, second = (
        sitk.GetArrayFromImage(read_label_map(verify_segmentation(workspace, record), labels, may_be_empty=True).image)
        for record in records
    )
    return [(label, dice(first, second, label.value)) for label in labels]


def place_side_by_side(volume: Any, nodes: list[Any]) -> None:
    """One result in the red view, the other in the yellow one, on the same slices of the volume; if there are views."""
    manager = slicer.app.layoutManager() if hasattr(slicer.app, "layoutManager") else None
    if manager is None:
        return
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    for node, name in zip(nodes, VIEWS, strict=True):
        node.GetDisplayNode().SetViewNodeIDs([f"vtkMRMLSliceNode{name}"])
    scene = volume.GetScene()
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene):
        if composite.GetLayoutName() in VIEWS:
            composite.SetBackgroundVolumeID(volume.GetID())
            composite.SetLinkedControl(True)
    red, yellow = (scene.GetNodeByID(f"vtkMRMLSliceNode{name}") for name in VIEWS)
    if red is not None and yellow is not None:
        yellow.GetSliceToRAS().DeepCopy(red.GetSliceToRAS())
        yellow.UpdateMatrices()
