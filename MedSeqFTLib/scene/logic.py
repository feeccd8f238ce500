"""Everything that the panels do, for scripts and Slicer's Python console; needs no window. See docs/scripting.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from MedSeqFTLib.errors import InputError, MedSeqFTError, WorkspaceError
from MedSeqFTLib.imaging.exporting import exportable, exported_files
from MedSeqFTLib.imaging.volumes import write_image
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.estimate import Estimate, estimate
from MedSeqFTLib.jobs.following import Following
from MedSeqFTLib.jobs.job import ACTIVE, REPORT_FILE, JobFolder
from MedSeqFTLib.jobs.starting import start_adaptation, start_export, start_report, start_segmentation
from MedSeqFTLib.learning.folds import unseen_cases
from MedSeqFTLib.learning.preflight import new_cases
from MedSeqFTLib.learning.promotion import Verdict, promote_by_hand, verdict_of
from MedSeqFTLib.learning.settings import adapt_settings
from MedSeqFTLib.scene import cases, proposals
from MedSeqFTLib.scene.cases import StoringJob
from MedSeqFTLib.scene.drafts import save_draft
from MedSeqFTLib.scene.program import worker_python
from MedSeqFTLib.scene.proposals import SegmentingJob
from MedSeqFTLib.scene.segmentations import Findings
from MedSeqFTLib.scene.tasks import task_of
from MedSeqFTLib.scene.volumes import copying, kept_name, known_name
from MedSeqFTLib.scene.waiting import Waiting, at_once
from MedSeqFTLib.scene.worklist import (
    Method,
    Row,
    Stored,
    Suggestion,
    known_volumes,
    open_row,
    reading,
    suggest,
    worklist,
)
from MedSeqFTLib.workspace.damage import in_short, shown_only
from MedSeqFTLib.workspace.person import person
from MedSeqFTLib.workspace.policy import Policy, Promotion
from MedSeqFTLib.workspace.schema import Case, ModelVersion, Reading, SelectionScore, Task
from MedSeqFTLib.workspace.segmentations import segmentations
from MedSeqFTLib.workspace.workspace import Workspace

if TYPE_CHECKING:
    from MedSeqFTLib.evaluation.drift import Drift
    from MedSeqFTLib.evaluation.report import DiceRow

QUICK = 300  # records of a task that are read without anybody noticing


class SceneLogic:
    """A workspace and a scene. What takes long runs in a worker process, and returns what follows it.

    Every method raises MedSeqFTError, with one line for the user, for what a person can mend.
    """

    def __init__(self, workspace: Workspace | Path | str, scene: Any = None, wait: Waiting = at_once) -> None:
        """Open a workspace.

        Args:
            scene: a vtkMRMLScene; by default slicer.mrmlScene.
            wait: for what takes long and touches no scene: a window wants to live meanwhile.

        Raises:
            WorkspaceError: the folder is no workspace, or a newer program made it.
        """
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
        self.scene = slicer.mrmlScene if scene is None else scene
        self._wait = wait
        self._storing: dict[str, StoringJob] = {}

    def new_task(self, name: str, modality: str, segmentation: Any, description: str = "") -> Task:
        """Make a task of the segments of a node: see `MedSeqFTLib.scene.tasks.task_of`. Their values are pinned."""
        return self.workspace.add_task(task_of(name, modality, segmentation, description))

    # segmenting

    def segment(
        self,
        task: str,
        volume: Any,
        *,
        version: str | None = None,
        reading: Reading = "per-task",
        device: str = "auto",
    ) -> SegmentingJob:
        """Begin to segment a volume node. `load` of what is returned brings the result into the scene.

        Args:
            version: by default the task's current one.
            reading: "single-model" takes the one model of all tasks.
        """
        copy, name = copying(volume), kept_name(self.workspace, volume)

        def begin() -> JobFolder:
            with self.workspace.staging() as folder:
                write_image(copy(), folder / f"{name}.nrrd", quick=True)
                return start_segmentation(
                    self.workspace,
                    task,
                    folder,
                    f"{name}.nrrd",
                    name,
                    version=version,
                    reading=reading,
                    device=device,
                    python=worker_python(),
                )

        return SegmentingJob(self._wait(begin), self.workspace, volume)

    def segmenting(self) -> list[SegmentingJob]:
        """The volumes that are being segmented, the oldest first: to go on following them after a restart."""
        jobs = [job.folder for job in self.running() if job.folder.job.kind == "segment"]
        return [SegmentingJob(job, self.workspace, self._volume_named(str(job.job.settings["name"]))) for job in jobs]

    def _volume_named(self, name: str) -> Any:
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", self.scene)
        return next((volume for volume in volumes if known_name(self.workspace, volume) == name), None)

    def load_proposal(self, task: str, name: str, volume: Any, version: str | None = None) -> Any:
        """Put what a version proposed before beside its volume, as a new segmentation node; the newest by default."""
        found = [r for r in segmentations(self.workspace, task, name) if version in (None, r.version)]
        if not found:
            raise InputError(f"Task {task} has no segmentation named {name}; segment the volume.")
        return proposals.add_proposal(self.workspace, found[-1], volume)

    # cases

    def inspect(self, task: str, volume: Any, segmentation: Any) -> Findings:
        """What would be accepted, and what prevents it: see `MedSeqFTLib.scene.cases.inspect_case`."""
        return cases.inspect_case(self.workspace, task, volume, segmentation)

    def accept(
        self,
        task: str,
        volume: Any,
        segmentation: Any,
        role: str,
        *,
        case_id: str | None = None,
        by: str = "",
        seconds: float | None = None,
        near_duplicate_reason: str = "",
    ) -> StoringJob:
        """Store a corrected volume as a case: see `MedSeqFTLib.scene.cases.accept_case`. The result is a Case."""
        given = case_id, by, seconds, near_duplicate_reason, self._wait
        return self._kept(cases.accept_case(self.workspace, task, volume, segmentation, role, *given))

    def revise(
        self, task: str, case_id: str, volume: Any, segmentation: Any, *, by: str = "", seconds: float | None = None
    ) -> StoringJob:
        """Correct a stored case again; its earlier segmentation is kept: see `MedSeqFTLib.scene.cases.revise_case`."""
        given = by, seconds, self._wait
        return self._kept(cases.revise_case(self.workspace, task, case_id, volume, segmentation, *given))

    def case_of(self, task: str, volume: Any) -> Case | None:
        """The stored case that a volume is known to be: it was opened, segmented or accepted before."""
        return cases.case_of(self.workspace, task, volume)

    def new_segmentation(self, task: str, volume: Any) -> Any:
        """A new segmentation node with an empty segment for each label of a task, to draw from nothing."""
        return cases.new_segmentation(self.workspace, task, volume)

    def open_case(self, task: str, case_id: str) -> tuple[Any, Any]:
        """Bring a stored case into the scene: new volume and segmentation nodes."""
        return cases.open_case(self.workspace, task, case_id, self.scene)

    def storing(self) -> list[StoringJob]:
        """Accepted cases that a worker is filing, the oldest first."""
        return [job for job in self.waiting() if job.is_active]

    def not_stored(self) -> list[StoringJob]:
        """Accepted cases whose worker failed or was killed. Nothing of them is lost: `resume` them."""
        return [job for job in self.waiting() if not job.is_active]

    def waiting(self) -> list[StoringJob]:
        """Accepted cases that are not in the workspace yet, the oldest first: both of the above in one look."""
        folders = (folder for folder in control.list_jobs(self.workspace) if folder.job.kind == "accept")
        open_ones = [folder for folder in folders if folder.state() in ACTIVE or folder.input_folder.exists()]
        jobs = [self._storing.get(folder.id) or StoringJob(folder) for folder in open_ones]
        for job in jobs:
            job.poll()
        return [job for job in jobs if job.is_active or job.folder.input_folder.exists()]

    def save_drafts(self, task: str, nodes: Sequence[Any]) -> list[str]:
        """Keep what was edited and not accepted: see `MedSeqFTLib.scene.drafts.save_draft`. Returns names of nodes."""
        return [str(node.GetName()) for node in nodes if save_draft(self.workspace, task, node, self._wait)]

    def worklist(self, task: str, jobs: Sequence[StoringJob] | None = None) -> list[Row]:
        """The volumes of the scene and of the workspace: see `MedSeqFTLib.scene.worklist.worklist`.

        Args:
            jobs: what is being stored or could not be; by default it is looked for.
        """
        return worklist(self.workspace, task, self.scene, self.waiting() if jobs is None else jobs)

    def is_quick(self, task: str) -> bool:
        """Whether the workspace holds so little of a task that `look` takes no time."""
        folders = (self.workspace.folder / name / task for name in ("cases", "segmentations"))
        return sum(len(os.listdir(folder)) for folder in folders if folder.is_dir()) <= QUICK

    def look(self, task: str) -> None:
        """Read what has changed of cases and proposals, and remember what takes thousands of them to tell.

        Whoever asks for it after this does not wait. May be done on a thread.

        Raises WorkspaceError if something is damaged; all else was read.
        """
        with shown_only() as left_out:
            self.workspace.cases()
            known_volumes(self.workspace, task)
            exportable(self.workspace, task)
            with suppress(MedSeqFTError):  # of a damaged version, which whoever needs it is told
                new_cases(self.workspace, task)
                unseen_cases(self.workspace, task)
        self.workspace.remembered.complete()
        if left_out:
            raise WorkspaceError(in_short(left_out))

    def suggest(self, task: str, method: Method = "lowest confidence") -> Suggestion:
        """Which volume to correct next, with the score that speaks for it: see `MedSeqFTLib.scene.worklist.suggest`."""
        return suggest(self.worklist(task), method)

    def open_row(self, task: str, row: Row, stored: Stored | None = None) -> tuple[Any, Any]:
        """A row's volume and segmentation, in the scene: see `MedSeqFTLib.scene.worklist.open_row`."""
        return open_row(self.workspace, task, row, self.scene, stored)

    def reading(self, task: str, row: Row) -> Callable[[], Stored]:
        """For `open_row`, to be done on a thread: see `MedSeqFTLib.scene.worklist.reading`."""
        return reading(self.workspace, task, row)

    def _kept(self, job: StoringJob) -> StoringJob:
        """Of the jobs that were begun here, the nodes are known."""
        self._storing[job.folder.id] = job
        return job

    # adapting, and jobs of any kind

    def adapt(
        self, task: str, preset: str = "balanced", changes: Mapping[str, str] | None = None, *, seed: int = 0
    ) -> Following:
        """Begin an adaptation: see `MedSeqFTLib.jobs.starting.start_adaptation`. It outlives Slicer."""
        python = worker_python()
        return Following(start_adaptation(self.workspace, task, preset, changes, seed=seed, python=python, wait=False))

    def estimate(self, task: str, preset: str = "balanced") -> Estimate:
        """How long an adaptation will take, as far as an earlier one of this workspace tells."""
        return estimate(self.workspace, task, adapt_settings(preset, {}))

    def running(self) -> list[Following]:
        """The jobs that are being worked on, oldest first: to go on following them after a restart."""
        return [Following(job) for job in control.list_jobs(self.workspace) if job.state() in ACTIVE]

    def latest(self, kind: str = "adapt") -> Following | None:
        """The newest job of a kind, whatever has become of it."""
        found = [folder for folder in control.list_jobs(self.workspace) if folder.job.kind == kind]
        return Following(found[-1]) if found else None

    def job(self, job_id: str) -> Following:
        """A job by its id."""
        return Following(control.job(self.workspace, job_id))

    def resume(self, job_id: str) -> Following:
        """Go on with an interrupted, cancelled or failed job."""
        return Following(control.resume(self.workspace, job_id, python=worker_python(), wait=False))

    # versions

    def picks(self, version: str) -> list[SelectionScore]:
        """The buffer of a version: its training cases with their scores, the lowest mean loss first.

        Empty for a version without a selection, such as a foundation model.
        """
        selection = self.workspace.version(version).selection
        scores = selection.scores if selection else ()
        return sorted(scores, key=lambda score: (score.loss is None, score.loss or 0.0))

    def outcome(self, version: str) -> list[DiceRow]:
        """Dice on held-out cases before and after, of the version's own task and of the earlier ones."""
        from MedSeqFTLib.jobs.summary import dice_rows

        return dice_rows(self.workspace.version(version))

    def verdict(self, version: str) -> Verdict:
        """What measured cases say of a version, against the one that it took over from or would take over from."""
        return verdict_of(self.workspace, self.workspace.version(version))

    def current(self, task: str) -> ModelVersion | None:
        """The version that segments a task now."""
        return self.workspace.current_version(self.workspace.task(task).name)

    def newest(self, task: str) -> ModelVersion | None:
        """The version that the last adaptation to a task made, whether it is current or not."""
        return next((found for found in reversed(self.workspace.versions()) if found.task == task), None)

    @property
    def policy(self) -> Policy:
        """What may become current, and with which margins."""
        return self.workspace.policy

    def change_policy(
        self,
        promotion: Promotion | None = None,
        reason: str = "",
        by: str = "",
        *,
        margin: float | None = None,
        earlier_margin: float | None = None,
    ) -> Policy:
        """Decide anew what may become current ("better", "person" or "never"); what is not given stays as it is."""
        asked = {"promotion": promotion, "margin": margin, "earlier_margin": earlier_margin}
        self.workspace.change_policy(self.policy.changed(asked), person(by), reason)
        return self.policy

    def promote(self, version: str, reason: str = "", by: str = "") -> None:
        """Make a version current for its task; against the verdict, or if the policy is "person", with a reason."""
        promote_by_hand(self.workspace, version, person(by), reason)

    def roll_back(self, task: str, reason: str = "", by: str = "") -> ModelVersion | None:
        """Undo the last promotion of a task. Returns the version that is current now, if there is one."""
        return self.workspace.rollback(task, person(by), reason)

    def drift(self, task: str) -> Drift:
        """Whether corrections are shrinking version by version; may take a second: see `evaluation.drift`."""
        from MedSeqFTLib.evaluation.drift import drift

        return drift(self.workspace, task)

    # handing on

    def exportable(self, task: str) -> list[str]:
        """Names of the cases and segmented volumes of a task."""
        return exportable(self.workspace, task)

    def export(
        self,
        task: str,
        names: Sequence[str],
        folder: Path | str,
        *,
        version: str | None = None,
        overwrite: bool = False,
    ) -> Following:
        """Write NAME.seg.nrrd, NAME.labels.nrrd with the task's values, and NAME.json into a folder."""
        job = start_export(
            self.workspace,
            task,
            list(names),
            Path(folder).expanduser(),
            version=version,
            overwrite=overwrite,
            python=worker_python(),
        )
        return Following(job)

    @staticmethod
    def files_of(names: Sequence[str], folder: Path | str) -> list[Path]:
        """The files that `export` writes, whether they exist or not."""
        return [path for name in names for path in exported_files(name, Path(folder).expanduser())]

    @property
    def report_path(self) -> Path:
        """Where `report` writes."""
        return self.workspace.folder / REPORT_FILE

    def report(self) -> Following:
        """Write report.html into the workspace: every adaptation with its figures, and the lineage."""
        return Following(start_report(self.workspace, python=worker_python()))
