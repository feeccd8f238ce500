"""One adaptation from beginning to end: prepare, select, stage A, stage B, measure, publish, promote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cache import PreparedCase
from MedSeqFTLib.learning.cross_validation import cross_validate
from MedSeqFTLib.learning.data import PreparedData, make_plan
from MedSeqFTLib.learning.forecast import PREPARATION, next_adaptation
from MedSeqFTLib.learning.foundation import new_foundation, starter
from MedSeqFTLib.learning.measuring import measure_all
from MedSeqFTLib.learning.memory import learn_in_memory
from MedSeqFTLib.learning.preflight import check_adaptable
from MedSeqFTLib.learning.progress import Job, Reporter
from MedSeqFTLib.learning.promotion import promote_if_better
from MedSeqFTLib.learning.publishing import published_by
from MedSeqFTLib.learning.runtime import settle_compute
from MedSeqFTLib.learning.selection.choice import with_chosen_buffer
from MedSeqFTLib.learning.settings import AdaptSettings, of_job
from MedSeqFTLib.learning.stage_version import publish_stage
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.learning.strategies.medseqft import MedSeqFT
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.workspace.schema import (
    Case,
    ModelVersion,
    Role,
    TaskPlan,
)
from MedSeqFTLib.workspace.workspace import Workspace


def run_adaptation(workspace: Workspace, job: Job, reporter: Reporter) -> str:
    """The runner of "adapt" jobs. Returns the id of the version that was made, promoted or not.

    Raises:
        InputError: the task has no new training case.
        WorkspaceError: a stored file is damaged.
        StorageError: the disk is full; the job can be resumed.
    """
    if job.task is None:
        raise InputError("An adaptation needs a task.")
    version = published_by(workspace, job.id, "adapted") or Adaptation(workspace, job, job.task, reporter).run()
    promote_if_better(workspace, version, reporter)
    return version.id


@dataclass(frozen=True)
class Adaptation:
    """The steps of one adaptation. After a kill they are all taken again; what was finished is read back."""

    workspace: Workspace
    job: Job
    task_name: str
    reporter: Reporter

    def run(self) -> ModelVersion:
        """Everything up to the published version."""
        settings = of_job(AdaptSettings, self.job.settings)
        check_adaptable(self.workspace, self.task_name, settings)
        self.reporter.plan(next_adaptation(self.workspace, self.task_name, settings))
        compute = settle_compute(settings, self.reporter.folder, self.reporter)
        context = self._context(settings, compute)
        context, selection = with_chosen_buffer(context)
        crossed = cross_validate(context)
        with self.workspace.staging() as folder:
            learned = learn_in_memory(MedSeqFT(), context, folder)
            scores = measure_all(context, learned.task_model, learned.chain)
            return publish_stage(
                context,
                learned,
                folder,
                job=self.job.id,
                selection=selection,
                scores=scores,
                cross_validation=crossed,
            )

    def _context(self, settings: AdaptSettings, compute: Compute) -> Context:
        task = self.workspace.task(self.task_name)
        train = self.workspace.cases(task.name, Role.TRAIN)
        chain = self.workspace.chain_version()
        if chain is None and settings.foundation == "starter":
            chain = starter(self.workspace, self.reporter)
        plan = make_plan(self.workspace, task, train, chain, self.workspace.foundation_of(chain), settings)
        prepared = self._prepare(train, plan)
        parent = chain or new_foundation(
            self.workspace, self.job, task.name, plan, prepared, settings, compute, self.reporter
        )
        return Context(
            workspace=self.workspace,
            reporter=self.reporter,
            settings=settings,
            compute=compute,
            seed=self.job.seed,
            task=task.name,
            plan=plan,
            parent=parent,
            foundation=self.workspace.foundation_of(parent) or parent,
            train=train,
            prepared=prepared,
        )

    def _prepare(self, train: Sequence[Case], plan: TaskPlan) -> list[PreparedCase]:
        self.reporter.stage(PREPARATION, len(train))
        done = 0

        def one_more() -> None:
            nonlocal done
            done += 1
            self.reporter.step(done)

        return PreparedData(self.workspace, one_more).cases(train, plan)
