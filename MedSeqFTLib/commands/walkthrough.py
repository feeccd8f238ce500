"""The story that the demo tells, with the same calls that the commands and 3D Slicer make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from MedSeqFTLib.commands.console import messages, say
from MedSeqFTLib.commands.watching import wait_for
from MedSeqFTLib.evaluation.pictures import case_picture
from MedSeqFTLib.evaluation.report import Picture, Report, StageSection, write_report
from MedSeqFTLib.imaging.acceptance import Proposal, accept
from MedSeqFTLib.imaging.decathlon import DataSet, Pair, split
from MedSeqFTLib.imaging.exporting import export
from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.imaging.segmentations import read_label_map
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.summary import lineage, stage_section
from MedSeqFTLib.learning.segmenting import segment_volume
from MedSeqFTLib.learning.settings import AdaptSettings
from MedSeqFTLib.models.compute import Compute, choose_compute
from MedSeqFTLib.workspace.schema import Case, ModelVersion, Role, Segmentation, Task
from MedSeqFTLib.workspace.segmentations import segmentation_path
from MedSeqFTLib.workspace.workspace import Workspace

DRAWN_BY_HAND = 2  # cases that a task begins with
FIRST_STEPS, SECOND_STEPS = (60, 20), (120, 60)  # stage A, stage B
PATCH_SIDE = 32  # voxels: small, for a result in minutes on two cores
READER = "demo (the reference stands in for the reader's correction)"
CAUTION = (
    "The corrections of this demo are the reference segmentations; no person drew anything. Few cases and few training "
    "steps: the figures show that the loop works, not how good a model can become."
)
SEMI_SYNTHETIC = (
    "The scans are semi-synthetic: one average brain (the MNI152 template that comes with nilearn), deformed, and "
    "scanned by a simulation. They are no clinical evidence."
)


@dataclass
class Chapter:
    """What happened to one task."""

    task: Task
    train: Sequence[Pair]
    held_out: Sequence[Pair]
    before: Segmentation | None = None
    after: Segmentation | None = None
    versions: list[ModelVersion] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)


class Walkthrough:
    """Two or more tasks, one after the other: segment, correct, accept, adapt, segment again, export, report."""

    def __init__(
        self,
        folder: Path,
        data_sets: Sequence[DataSet],
        train: int,
        validation: int,
        effort: float,
        seed: int,
        semi_synthetic: bool,
    ) -> None:
        self._folder = folder
        self._effort = effort
        self._seed = seed
        self._semi_synthetic = semi_synthetic
        self._chapters = [_chapter(data_set, train, validation, seed) for data_set in data_sets]
        self._compute: Compute = choose_compute()
        self.workspace = Workspace.create(folder / "workspace")

    def run(self) -> Path:
        """Everything; returns the report's path. Raises JobError if an adaptation does not end well."""
        for chapter in self._chapters:
            self.workspace.add_task(chapter.task)
        for chapter in self._chapters:
            self._live(chapter)
        files = self._export()
        return write_report(self._report(files), self._folder / "report.html")

    def _live(self, chapter: Chapter) -> None:
        task = chapter.task.name
        first, later = chapter.train[:DRAWN_BY_HAND], chapter.train[DRAWN_BY_HAND:]
        self._heading(f"Task {task}: {len(first)} cases drawn by hand, {len(chapter.held_out)} held out")
        for pair in chapter.held_out:
            self._accept(chapter, pair, Role.VALIDATION)
        for pair in first:
            self._accept(chapter, pair, Role.TRAIN)
        self._adapt(chapter, FIRST_STEPS)
        chapter.before = self._segment(chapter, chapter.held_out[0])
        self._heading(f"Task {task}: the model proposes {len(later)} more cases; they are corrected and accepted")
        for pair in later:
            case = self._accept(chapter, pair, Role.TRAIN, self._segment(chapter, pair))
            chapter.agreement.append(case.proposal_dice or 0.0)
            say(f"  {case.id}: Dice of the proposal with what was accepted {case.proposal_dice:.3f}")
        self._adapt(chapter, SECOND_STEPS)
        chapter.after = self._segment(chapter, chapter.held_out[0], chapter.versions[-1].id)

    def _accept(self, chapter: Chapter, pair: Pair, role: Role, proposed: Segmentation | None = None) -> Case:
        proposal = None
        if proposed is not None:
            proposal = Proposal(proposed.version, segmentation_path(self.workspace, proposed), proposed.confidence)
        return accept(
            self.workspace,
            chapter.task,
            pair.image,
            pair.label_map,
            role,
            case_id=pair.case_id,
            by=READER,
            proposal=proposal,
        )

    def _segment(self, chapter: Chapter, pair: Pair, version: str | None = None) -> Segmentation:
        return segment_volume(
            self.workspace, chapter.task.name, pair.image, self._compute, version=version, name=pair.case_id
        )

    def _adapt(self, chapter: Chapter, steps: tuple[int, int]) -> None:
        stage_a, stage_b = (self._scaled(count) for count in steps)
        settings = AdaptSettings(
            patch_side=PATCH_SIDE, stage_a_steps=stage_a, stage_b_steps=stage_b, selection_passes=8
        )
        job = control.new_job(self.workspace, "adapt", chapter.task.name, settings.model_dump(mode="json"), self._seed)
        folder = control.start_job(self.workspace, job)
        wait_for(folder)
        version = folder.progress().version
        assert version is not None
        chapter.versions.append(self.workspace.version(version))

    def _scaled(self, steps: int) -> int:
        return max(2, round(self._effort * steps))

    def _heading(self, text: str) -> None:
        messages.print(f"\n[bold]{text}[/bold]", soft_wrap=True)

    def _export(self) -> list[tuple[str, str]]:
        files = [("Workspace", str(self.workspace.folder))]
        for chapter in self._chapters:
            name = chapter.held_out[0].case_id
            version = chapter.after.version if chapter.after else None
            paths = export(
                self.workspace, chapter.task.name, name, self._folder / "export" / chapter.task.name, version
            )
            files += [(f"{chapter.task.name}: {path.name}", str(path)) for path in paths]
        return files

    def summary(self) -> list[tuple[object, ...]]:
        """Per task: mean held-out Dice before the last adaptation, after it, and once the later tasks were learned."""
        return [
            (
                chapter.task.name,
                _shown(_mean(chapter.versions[-1], chapter, chapter.versions[0].id)),
                _shown(_mean(chapter.versions[-1], chapter, chapter.versions[-1].id)),
                _shown(self._at_the_end(chapter)),
            )
            for chapter in self._chapters
        ]

    def _at_the_end(self, chapter: Chapter) -> float | None:
        current = self.workspace.current_version(chapter.task.name)
        last = self._chapters[-1].versions[-1]
        return _mean(last, chapter, current.id) if current else None

    def _report(self, files: list[tuple[str, str]]) -> Report:
        sections = [section for chapter in self._chapters for section in self._sections(chapter)]
        tasks = ", then ".join(chapter.task.name for chapter in self._chapters)
        last = self._chapters[-1].versions[-1]
        foundation = self.workspace.foundation_of(last)
        assert foundation is not None
        beginning = f"The chain begins with {foundation.id}. {foundation.note}"
        notes = [*([SEMI_SYNTHETIC] if self._semi_synthetic else []), CAUTION, beginning]
        facts = [
            ("Tasks", tasks),
            ("Computed on", str(last.settings.get("computed on"))),
            ("Software", ", ".join(f"{name} {version}" for name, version in last.software.items())),
            ("Seed", str(self._seed)),
        ]
        return Report(
            title="MedSeqFT demo",
            subtitle=f"Learned one after the other: {tasks}",
            facts=facts,
            notes=notes,
            sections=sections,
            lineage=lineage(self.workspace),
            files=files,
        )

    def _sections(self, chapter: Chapter) -> list[StageSection]:
        first, last = chapter.versions
        text = (
            f"{len(chapter.train) - DRAWN_BY_HAND} more cases were proposed by {first.id}, corrected and accepted. "
            f"Mean Dice of the proposals with what was accepted: {sum(chapter.agreement) / len(chapter.agreement):.3f}."
        )
        return [
            stage_section(self.workspace, first, f"{DRAWN_BY_HAND} cases drawn by hand: the task's first model."),
            stage_section(self.workspace, last, text, [self._picture(chapter)]),
        ]

    def _picture(self, chapter: Chapter) -> Picture:
        pair = chapter.held_out[0]
        image = read_volume(pair.image)
        rows = [
            (f"{title}: {record.version}", read_label_map(segmentation_path(self.workspace, record), labels).image)
            for title, record in (("before", chapter.before), ("after", chapter.after))
            if record is not None and (labels := chapter.task.labels) and any(record.label_voxels.values())
        ]
        reference = read_label_map(pair.label_map, chapter.task.labels, Geometry.of(image)).image
        caption = f"{pair.case_id}, held out: before and after the last adaptation, and the reference."
        return case_picture(image, [*rows, ("reference", reference)], chapter.task.labels, caption)


def _chapter(data_set: DataSet, train: int, validation: int, seed: int) -> Chapter:
    chosen = split(data_set.pairs, train, validation, seed)
    by_role = {role: [pair for pair, its_role in chosen if its_role is role] for role in Role}
    return Chapter(data_set.task, by_role[Role.TRAIN], by_role[Role.VALIDATION])


def _mean(holder: ModelVersion, chapter: Chapter, version: str) -> float | None:
    """Mean Dice of a version on a task's held-out cases, as recorded in `holder`."""
    scores = holder.measured(chapter.task.name, version)
    return scores.mean_dice if scores else None


def _shown(dice: float | None) -> str:
    return "none" if dice is None else f"{dice:.3f}"
