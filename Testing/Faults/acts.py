"""What is done to a workspace while something goes wrong. Each act is the product's own function, called in a child.

The folder of a trial holds `workspace`, `given` (see samples) and `out`. An act may be done again after a fault.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from Faults import samples
from Faults.samples import TASK
from MedSeqFTLib.workspace.files import storage_errors
from MedSeqFTLib.workspace.schema import Label, Role
from MedSeqFTLib.workspace.workspace import Workspace


@dataclass(frozen=True)
class Act:
    """Something that a user does.

    Attributes:
        do: in the folder of a trial; raises the product's own errors.
        done: whether it is visibly done.
        changes: paths below the folder of the trial that it may replace; all else that was there stays as it was.
    """

    name: str
    do: Callable[[Path], object]
    done: Callable[[Path], bool]
    changes: tuple[str, ...] = ()


def perform(name: str, folder: str) -> None:
    """Do an act: called in a child."""
    ACTS[name].do(Path(folder))


def opened(folder: Path) -> Workspace:
    return Workspace.open(folder / "workspace")


def _accept(folder: Path) -> None:
    from MedSeqFTLib.imaging.acceptance import accept

    workspace, given = opened(folder), folder / "given"
    accept(workspace, workspace.task(TASK), given / "new.nrrd", given / "new-labels.nrrd", Role.TRAIN, case_id="new")


def _revise(folder: Path) -> None:
    from MedSeqFTLib.imaging.revision import revise

    workspace, given = opened(folder), folder / "given"
    image = given / "scan0.nrrd"
    revise(workspace, workspace.task(TASK), "case0", image, given / "corrected-labels.nrrd", by="a person")


def _publish(folder: Path) -> None:
    workspace = opened(folder)
    workspace.publish(samples.again(workspace.version("M1"), "M4"), folder / "given" / "weights")


def _add_task(folder: Path) -> None:
    task = opened(folder).task(TASK)
    label = Label(value=3, name="bone", color=(1.0, 1.0, 1.0))
    opened(folder).add_task(task.model_copy(update={"name": "bones", "labels": (label,)}))


def _segment(folder: Path) -> None:
    from MedSeqFTLib.learning.segmenting import segment_volume
    from MedSeqFTLib.models.compute import choose_compute

    segment_volume(opened(folder), TASK, folder / "given" / "new.nrrd", choose_compute("cpu", "float32"))


def _segmented(folder: Path) -> bool:
    from MedSeqFTLib.workspace.segmentations import segmentations, verify_segmentation

    workspace = opened(folder)
    found = segmentations(workspace, TASK, "new")
    return bool(found) and all(verify_segmentation(workspace, record).is_file() for record in found)


def _draft(folder: Path) -> None:
    from MedSeqFTLib.workspace.drafts import store_draft

    source = folder / "given" / "new-labels.nrrd"
    store_draft(opened(folder), samples.a_draft("draft-2"), lambda path: shutil.copyfile(source, path))


def _drafted(folder: Path) -> bool:
    from MedSeqFTLib.workspace.drafts import draft_path, drafts

    found = [draft for draft in drafts(opened(folder), TASK) if draft.id == "draft-2"]
    source = folder / "given" / "new-labels.nrrd"
    return bool(found) and draft_path(opened(folder), found[0]).read_bytes() == source.read_bytes()


def _export(folder: Path) -> None:
    from MedSeqFTLib.imaging.exporting import export

    export(opened(folder), TASK, "case0", folder / "out" / "files", overwrite=True)


def _exported(folder: Path) -> bool:
    from MedSeqFTLib.imaging.exporting import exported_files

    return all(path.is_file() for path in exported_files("case0", folder / "out" / "files"))


def _event(folder: Path) -> None:
    from MedSeqFTLib.jobs.control import list_jobs
    from MedSeqFTLib.jobs.events import Event
    from MedSeqFTLib.jobs.launching import append_event

    job = list_jobs(opened(folder))[0]
    append_event(job, Event(kind="message", text="written by a test"))
    append_event(job, Event(kind="finished", text="a second time", version="M1"))


def _told(folder: Path) -> bool:
    from MedSeqFTLib.jobs.control import list_jobs

    events, _ = list_jobs(opened(folder))[0].events()
    assert not any(event.kind == "warning" for event in events), "a line of the events is damaged"
    return events[-1].text == "a second time"


def _adapt(folder: Path) -> None:
    """As a worker does it; a job that was begun is gone on with."""
    from MedSeqFTLib.errors import JobError
    from MedSeqFTLib.jobs import worker

    path = _unfinished(folder) or samples.write_job(opened(folder), samples.adaptation(opened(folder)))
    code = worker.main([str(path)])
    if code != worker.EXIT_FINISHED:
        raise JobError(f"the worker ended with {code}: {_last_text(path)}")


def _unfinished(folder: Path, kind: str = "adapt") -> Path | None:
    from MedSeqFTLib.jobs.control import list_jobs

    jobs = (job for job in list_jobs(opened(folder)) if job.job.kind == kind)
    return next((job.path for job in jobs if job.state() != "finished"), None)


def _errand(folder: Path) -> None:
    """Accept as the window does: the files are handed to a job, and a worker stores them."""
    from MedSeqFTLib.errors import JobError
    from MedSeqFTLib.jobs import worker

    path = _unfinished(folder, "accept") or write_errand(folder)
    code = worker.main([str(path)])
    if code != worker.EXIT_FINISHED:
        raise JobError(f"the worker ended with {code}: {_last_text(path)}")


def write_errand(folder: Path) -> Path:
    """The folder of a job that accepts the new scan; no worker is started."""
    with samples.no_worker():
        return accept_by_job(folder)


def accept_by_job(folder: Path) -> Path:
    """Hand the new scan to a job, as the window does; it is safe when this returns."""
    from MedSeqFTLib.jobs.starting import start_acceptance

    workspace, files = opened(folder), ("new.nrrd", "new-labels.nrrd")
    with workspace.staging() as inputs:
        for name in files:
            with storage_errors(inputs / name):  # the window writes them with write_volume
                shutil.copyfile(folder / "given" / name, inputs / name)
        settings = {"role": Role.TRAIN, "case_id": "new", "by": "a person"}
        return start_acceptance(workspace, TASK, inputs, *files, settings).path


def _create(folder: Path) -> None:
    workspace = Workspace.create(folder / "out" / "another") if not _created(folder) else opened_other(folder)
    workspace.add_task(opened(folder).task(TASK))


def opened_other(folder: Path) -> Workspace:
    return Workspace.open(folder / "out" / "another")


def _created(folder: Path) -> bool:
    return (folder / "out" / "another" / "workspace.json").is_file()


def _has_its_task(folder: Path) -> bool:
    from MedSeqFTLib.workspace.audit_check import verify

    if not _created(folder):
        return False
    problems = [problem for problem in verify(opened_other(folder)).problems if "audit.jsonl is missing" not in problem]
    assert not problems, problems[0]
    return [task.name for task in opened_other(folder).tasks()] == [TASK]


def _last_text(path: Path) -> str:
    from MedSeqFTLib.jobs.events import last_event

    event = last_event(path / "events.jsonl")
    return str(event.text) if event else "no event"


def _adapted(folder: Path) -> bool:
    """A further version that learned all three cases, made once, with all its files."""
    workspace = opened(folder)
    found = [version for version in workspace.versions() if len(version.train_cases) == 3]
    assert len(found) <= 1, f"one adaptation made {len(found)} versions"
    for version in found:
        workspace.verify_version(version)
    return bool(found) and _unfinished(folder) is None


def _is_case(folder: Path, name: str, segmentations: int = 1) -> bool:
    workspace = opened(folder)
    found = [case for case in workspace.cases(TASK) if case.id == name and len(case.revisions) + 1 >= segmentations]
    for case in found:
        workspace.verify_case(case)
    return bool(found)


def _is_current(folder: Path, version: str) -> bool:
    return opened(folder).pointers().tasks[TASK] == version


def _export_all(folder: Path) -> None:
    from MedSeqFTLib.workspace.archive import export_workspace

    export_workspace(opened(folder), folder / "out" / "backup.zip", overwrite=True)


def _is_backed_up(folder: Path) -> bool:
    """The archive is there, whole: it can be taken in again."""
    from MedSeqFTLib.workspace.unpacking import import_workspace

    archive, taken = folder / "out" / "backup.zip", folder / "out" / "taken"
    if not archive.is_file():
        return False
    shutil.rmtree(taken, ignore_errors=True)
    import_workspace(archive, taken)
    shutil.rmtree(taken)
    return True


def _import_all(folder: Path) -> None:
    from MedSeqFTLib.workspace.unpacking import import_workspace

    import_workspace(folder / "given" / "backup.zip", folder / "out" / "moved")


def _is_moved(folder: Path) -> bool:
    from MedSeqFTLib.workspace.audit_check import verify

    moved = folder / "out" / "moved"
    if not moved.exists():
        return False
    workspace = Workspace.open(moved)  # never half there
    assert not verify(workspace).problems
    return workspace.pointers() == opened(folder).pointers()


_POINTERS = "workspace/models/current.json"
_LOG = "workspace/audit*"
_ALL = (
    Act("accept", _accept, lambda folder: _is_case(folder, "new"), (_LOG,)),
    Act("revise", _revise, lambda f: _is_case(f, "case0", 2), (_LOG, "workspace/cases/balls/case0/case.json")),
    Act(
        "promote",
        lambda folder: opened(folder).promote("M3", "a person", "tested"),
        lambda folder: _is_current(folder, "M3"),
        (_LOG, _POINTERS),
    ),
    Act(
        "roll back",
        lambda folder: opened(folder).rollback(TASK, "a person", "tested"),
        lambda folder: _is_current(folder, "M1"),
        (_LOG, _POINTERS),
    ),
    Act("publish", _publish, lambda f: "M4" in [v.id for v in opened(f).versions()], (_LOG,)),
    Act("add a task", _add_task, lambda f: "bones" in [t.name for t in opened(f).tasks()], (_LOG,)),
    Act("segment", _segment, _segmented),
    Act("keep a draft", _draft, _drafted),
    Act("export", _export, _exported),
    Act("append events", _event, _told, ("workspace/jobs/*/events.jsonl",)),
    Act("store an edit", _errand, lambda f: _is_case(f, "new") and _unfinished(f, "accept") is None, (_LOG,)),
    Act("make a workspace", _create, _has_its_task),
    Act("export the workspace", _export_all, _is_backed_up, (_LOG,)),
    Act("import a workspace", _import_all, _is_moved),
    Act("adapt", _adapt, _adapted, (_LOG, _POINTERS)),
)
ACTS = {act.name: act for act in _ALL}
