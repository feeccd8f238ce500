"""One adaptation from beginning to end: prepare, select, stage A, stage B, measure, publish, promote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cache import PreparedCase
from MedSeqFTLib.learning.data import PreparedData, make_plan
from MedSeqFTLib.learning.foundation import SUBSTITUTE_STAGE, conditions_of, new_foundation, reader_for, starter
from MedSeqFTLib.learning.measuring import CANDIDATE, STAGE, measure_all
from MedSeqFTLib.learning.preflight import check_adaptable
from MedSeqFTLib.learning.pretraining import STAGE as FOUNDATION_STAGE
from MedSeqFTLib.learning.progress import Job, Reporter
from MedSeqFTLib.learning.promotion import promote_if_no_worse
from MedSeqFTLib.learning.publishing import (
    next_version,
    published_by,
    recorded,
    save_modules,
    software,
)
from MedSeqFTLib.learning.runtime import settle_compute
from MedSeqFTLib.learning.selection.buffer import expected_work, select_buffer
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.learning.stages import ChainModel, Context, TaskModel, stage_a, stage_b
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.weights import (
    BACKBONE,
    TASK_BACKBONE,
    chain_head,
    file_hashes,
    task_head,
)
from MedSeqFTLib.workspace.files import read_json, write_json
from MedSeqFTLib.workspace.schema import (
    Case,
    Document,
    ModelVersion,
    Role,
    Selection,
    TaskPlan,
    TaskScores,
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
    promote_if_no_worse(workspace, version, reporter)
    return version.id


class SelectionFile(Document):
    """selection.json in the job's folder: what MDS chose, and what the choice depends on."""

    identity: str
    selection: Selection


@dataclass(frozen=True)
class Adaptation:
    """The steps of one adaptation. After a kill they are all taken again; what was finished is read back."""

    workspace: Workspace
    job: Job
    task_name: str
    reporter: Reporter

    def run(self) -> ModelVersion:
        """Everything up to the published version."""
        settings = AdaptSettings.model_validate(self.job.settings)
        check_adaptable(self.workspace, self.task_name, settings)
        self._announce(settings)
        compute = settle_compute(settings, self.reporter)
        context = self._context(settings, compute)
        selection = self._selection(context)
        kept = tuple(score.case for score in selection.scores if score.kept)
        buffers = {**context.parent.buffers, self.task_name: kept}
        task_model = stage_a(context, buffers)
        with self.workspace.staging() as folder:
            chain_model = stage_b(context, buffers, task_model, folder / "adapter")
            scores = measure_all(context, task_model, chain_model)
            _save(folder, self.task_name, task_model, chain_model)
            return self._publish(context, selection, buffers, scores, folder)

    def _announce(self, settings: AdaptSettings) -> None:
        """Sizes of the stages in training steps, as measured on a CPU: they only steer the forecast."""
        chain = self.workspace.chain_version()
        earlier = [task for task in (chain.plans if chain else {}) if task != self.task_name]
        cases = len(self.workspace.cases(self.task_name, Role.TRAIN))
        held_out = sum(len(self.workspace.cases(task, Role.VALIDATION)) for task in (self.task_name, *earlier))
        self.reporter.plan(
            [
                ("prepare", 0.3 * cases),
                *(
                    [(FOUNDATION_STAGE, settings.pretrain_steps)]
                    if chain is None and settings.foundation == "new"
                    else []
                ),
                *([(SUBSTITUTE_STAGE, settings.pretrain_steps)] if settings.selection == "mds-substitute" else []),
                *expected_work(settings, cases),
                ("stage A", 1.7 * settings.stage_a_steps),
                ("stage B", (3.0 if earlier else 1.7) * settings.stage_b_steps),
                (STAGE, 2.0 * held_out),
            ]
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
        self.reporter.stage("prepare", len(train))
        done = 0

        def one_more() -> None:
            nonlocal done
            done += 1
            self.reporter.step(done)

        return PreparedData(self.workspace, one_more).cases(train, plan)

    def _selection(self, context: Context) -> Selection:
        path = self.reporter.folder / "selection.json"
        identity = context.identity("selection", context.foundation.files)
        if path.exists():
            kept = read_json(path, SelectionFile)
            if kept.identity == identity:
                return kept.selection
        cases = {case.id: prepared for case, prepared in zip(context.train, context.prepared, strict=True)}
        reader = reader_for(context)
        selection = select_buffer(
            cases, reader, context.settings, context.seed, self.reporter, identity, conditions_of(context)
        )
        write_json(path, SelectionFile(identity=identity, selection=selection))
        return selection

    def _publish(
        self,
        context: Context,
        selection: Selection,
        buffers: dict[str, tuple[str, ...]],
        scores: Sequence[TaskScores],
        folder: Path,
    ) -> ModelVersion:
        with next_version(self.workspace) as name:
            version = ModelVersion(
                id=name,
                kind="adapted",
                parent=context.parent.id,
                task=context.task,
                job=self.job.id,
                network=context.parent.network,
                lora=context.parent.lora,
                plans={**context.parent.plans, context.task: context.plan},
                train_cases=tuple(case.id for case in context.train),
                validation_cases=tuple(case.id for case in self.workspace.cases(context.task, Role.VALIDATION)),
                buffers=buffers,
                selection=selection,
                scores=tuple(_named(score, name) for score in scores),
                settings={**recorded(context.settings), "seed": context.seed, "computed on": str(context.compute)},
                software=software(),
                files=file_hashes(folder),
            )
            return self.workspace.publish(version, folder)


def _save(folder: Path, task: str, task_model: TaskModel, chain_model: ChainModel) -> None:
    chain_heads = {chain_head(name): head for name, head in chain_model.heads.items()}
    save_modules(
        folder,
        {
            BACKBONE: chain_model.backbone,
            TASK_BACKBONE: task_model.backbone,
            task_head(task): task_model.head,
            **chain_heads,
        },
    )


def _named(scores: TaskScores, version: str) -> TaskScores:
    return scores.model_copy(update={"version": version}) if scores.version == CANDIDATE else scores
