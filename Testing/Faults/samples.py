"""A workspace with one of everything, made once and copied for each trial; tiny, so that a trial takes a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from learning_samples import TINY, add_balls, ball_scan, ball_task

from MedSeqFTLib.jobs import control, worker
from MedSeqFTLib.jobs.job import Job
from MedSeqFTLib.learning.settings import adapt_settings
from MedSeqFTLib.workspace.archive import export_workspace
from MedSeqFTLib.workspace.drafts import Draft, store_draft
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription, ResidualUNetDescription
from MedSeqFTLib.workspace.schema import ExpectedInput, ModelVersion, Role
from MedSeqFTLib.workspace.workspace import Workspace

TASK = "balls"
NETWORK = ResidualUNetDescription(channels=(4, 8), decoder_features=4)
PRETEXT = MaskedReconstructionDescription(block=8)
#: The smallest training there is, on one thread.
SMALLEST = {**TINY, "threads": "1", "stage_a_steps": "3", "stage_b_steps": "3", "checkpoint_seconds": "0"}


def make(folder: str) -> None:
    """`workspace`, and `given` with what the acts are given: a scan and its label maps, weights, an edited case."""
    base = Path(folder)
    given = base / "given"
    given.mkdir(parents=True)
    (base / "out").mkdir()
    workspace = Workspace.create(base / "workspace")
    task = workspace.add_task(ball_task(TASK))
    add_balls(workspace, given, task, range(2), Role.TRAIN)
    add_balls(workspace, given, task, range(100, 101), Role.VALIDATION)
    _add_foundation(workspace, base / "foundation")
    _learn(workspace)
    _publish_again(workspace, "M2", given / "weights")
    workspace.promote("M2", "a person", "for the tests")
    _publish_again(workspace, "M3", given / "weights")
    _write_scans(given)
    _segment(workspace, given)
    _draft(workspace, given)
    add_balls(workspace, given, task, range(2, 3), Role.TRAIN)  # not learned yet: there is something to adapt to
    export_workspace(workspace, given / "backup.zip")


def adaptation(workspace: Workspace) -> Job:
    """The job of a smallest adaptation; nothing is written."""
    settings = adapt_settings("quick", SMALLEST).model_dump(mode="json")
    return control.new_job(workspace, "adapt", TASK, settings)


def write_job(workspace: Workspace, job: Job, inputs: Path | None = None) -> Path:
    """The job's folder, as `control.start_job` makes it; no worker is started."""
    with no_worker():
        return control.start_job(workspace, job, inputs=inputs, wait=False).path


@contextmanager
def no_worker() -> Iterator[None]:
    """Jobs are written, and nobody is started: the trial's own process is the worker."""
    start = control.start_worker
    control.start_worker = lambda *_: None
    try:
        yield
    finally:
        control.start_worker = start


def _add_foundation(workspace: Workspace, folder: Path) -> None:
    """An untrained M0: a fault asks for no quality."""
    from MedSeqFTLib.learning.publishing import publish_foundation, save_modules
    from MedSeqFTLib.models.networks import build_backbone
    from MedSeqFTLib.models.pretext import build_pretext
    from MedSeqFTLib.models.weights import BACKBONE, PRETEXT_HEAD

    folder.mkdir()
    parts = {BACKBONE: build_backbone(NETWORK, 0), PRETEXT_HEAD: build_pretext(PRETEXT, NETWORK, 0)}
    save_modules(folder, parts)
    expected = ExpectedInput(intensity={}, patch=(16, 16, 16))
    publish_foundation(workspace, folder, NETWORK, "untrained, for tests of faults", pretext=PRETEXT, input=expected)


def _learn(workspace: Workspace) -> None:
    assert worker.main([str(write_job(workspace, adaptation(workspace)))]) == worker.EXIT_FINISHED


def _publish_again(workspace: Workspace, name: str, copied_to: Path) -> None:
    """The weights of M1 once more, as a version of its own; they stay in `copied_to`, with their version.json."""
    import shutil

    first = workspace.version("M1")
    shutil.copytree(workspace.version_folder("M1"), copied_to, dirs_exist_ok=True)
    workspace.publish(again(first, name), copied_to)


def again(version: ModelVersion, name: str) -> ModelVersion:
    """The same weights under another name."""
    return version.model_copy(update={"id": name, "job": None})


def _write_scans(given: Path) -> None:
    from MedSeqFTLib.imaging.segmentations import write_label_map
    from MedSeqFTLib.imaging.volumes import write_volume

    for name, seed in (("new", 7), ("segmented", 8)):
        image, labels = ball_scan(seed)
        write_volume(image, given / f"{name}.nrrd")
        write_label_map(labels, given / f"{name}-labels.nrrd")
    corrected = ball_scan(0)[1]
    corrected[2, 2, 2] = 1
    write_label_map(corrected, given / "corrected-labels.nrrd")


def _segment(workspace: Workspace, given: Path) -> None:
    from MedSeqFTLib.learning.segmenting import segment_volume
    from MedSeqFTLib.models.compute import choose_compute

    segment_volume(workspace, TASK, given / "segmented.nrrd", choose_compute("cpu", "float32"))


def _draft(workspace: Workspace, given: Path) -> None:
    import shutil

    store_draft(workspace, a_draft("draft-1"), lambda path: shutil.copyfile(given / "new-labels.nrrd", path))


def a_draft(name: str) -> Draft:
    """Of a volume that is nowhere else."""
    return Draft(id=name, task=TASK, volume="a scan", size=(20, 24, 22), spacing=(1.5, 1.2, 2.0))
