"""What thousands of cases cost: listed, looked at by panels and checks, audited, reported. Seconds and memory of each.

The workspace is written directly, in minutes less than by accepting: every case has the same two small files (hard
links), a record of its own, and a proposal that it was corrected from; one volume in ten was only segmented. The audit
log has a line for each case. Each act runs in a process of its own, which is the worst case: nothing is remembered.

Run: python Testing/Benchmarks/many_cases.py [--cases 10000]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workspace_samples import a_task, a_version, weights_folder

from MedSeqFTLib.workspace.audit import AUDIT_FILE, FIRST, AuditEntry
from MedSeqFTLib.workspace.files import document_bytes
from MedSeqFTLib.workspace.schema import Case, Role, Segmentation
from MedSeqFTLib.workspace.workspace import Workspace

TASK = "brain"
SHARED = b"stands for a volume"
SHARED_SHA256 = hashlib.sha256(SHARED).hexdigest()
Act = Callable[[Workspace], object]


def make(folder: Path, count: int) -> Workspace:
    """A workspace with `count` cases and 1.1 times as many proposals."""
    workspace = Workspace.create(folder / "workspace")
    workspace.add_task(a_task(TASK))
    for name, parent, task in (("M0", None, None), ("M1", "M0", TASK)):
        files = weights_folder(folder / name)
        learned = tuple(f"case-{number:05}" for number in range(count * 9 // 10)) if task else ()
        workspace.publish(a_version(name, files, task, parent).model_copy(update={"train_cases": learned}), files)
    workspace.promote("M1", "somebody", "for the benchmark")
    shared = folder / "shared"
    shared.write_bytes(SHARED)
    log = _Log(workspace.folder / AUDIT_FILE)
    for number in range(count + count // 10):
        name, pixels = f"case-{number:05}", hashlib.sha256(f"{number}".encode()).hexdigest()
        put(workspace.folder / "segmentations" / TASK / name / "M1", shared, a_proposal(name, pixels))
        if number < count:
            case = a_case(name, pixels)
            put(workspace.folder / "cases" / TASK / name, shared, case)
            log.add(f"{TASK}/{name}", f"cases/{TASK}/{name}/case.json", document_bytes(case))
    log.close()
    return workspace


def a_case(name: str, pixels: str) -> Case:
    return Case(
        id=name,
        task=TASK,
        role=Role.VALIDATION if name.endswith("0") else Role.TRAIN,
        source_image=f"{name}.nii.gz",
        source_segmentation=f"{name}.seg.nrrd",
        image_sha256=SHARED_SHA256,
        segmentation_sha256=SHARED_SHA256,
        pixel_sha256=pixels,
        size=(64, 64, 32),
        spacing=(1.0, 1.0, 2.0),
        label_voxels={"grey matter": 1234, "white matter": 4321},
        accepted_by="somebody",
        proposed_by="M1",
        proposal_dice=0.9,
        seconds_spent=60.0,
        descriptor=(3.0, 4.0, 4.0, -1.0, 0.0, 1.0, 2.0, int(pixels[:4], 16) / 1000),
    )


def a_proposal(name: str, pixels: str) -> Segmentation:
    return Segmentation(
        name=name,
        task=TASK,
        version="M1",
        reading="per-task",
        source_image=f"{name}.nii.gz",
        pixel_sha256=pixels,
        segmentation_sha256=SHARED_SHA256,
        size=(64, 64, 32),
        spacing=(1.0, 1.0, 2.0),
        label_voxels={"grey matter": 1234, "white matter": 4321},
        confidence=int(pixels[:4], 16) / 65535,
        descriptor=(3.0, 4.0, 4.0, -1.0, 0.0, 1.0, 2.0, int(pixels[:4], 16) / 1000),
    )


class _Log:
    """Lines as `audit.note` writes them, without waiting for the disk after each."""

    def __init__(self, path: Path) -> None:
        lines = path.read_bytes().splitlines()
        self._number, self._previous = len(lines), hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST
        self._file = path.open("ab")

    def add(self, subject: str, document: str, data: bytes) -> None:
        self._number += 1
        entry = AuditEntry(
            number=self._number,
            who="somebody",
            act="case accepted",
            subject=subject,
            documents={document: hashlib.sha256(data).hexdigest()},
            previous=self._previous,
        )
        line = entry.model_dump_json().encode()
        self._previous = hashlib.sha256(line).hexdigest()
        self._file.write(line + b"\n")

    def close(self) -> None:
        self._file.close()


def put(folder: Path, shared: Path, document: Case | Segmentation) -> None:
    folder.mkdir(parents=True)
    names = ("image.nrrd", "segmentation.seg.nrrd") if isinstance(document, Case) else ("segmentation.seg.nrrd",)
    for name in names:
        os.link(shared, folder / name)
    (folder / ("case.json" if isinstance(document, Case) else "segmentation.json")).write_bytes(
        document_bytes(document)
    )


# the acts


def list_cases(workspace: Workspace) -> object:
    return len(workspace.cases())


def list_again(workspace: Workspace) -> object:
    """The second time in one process; the first is not counted."""
    workspace.cases()
    return lambda: len(workspace.cases())


def command_list(workspace: Workspace) -> object:
    return _command("case", "list", "--workspace", str(workspace.folder))


def command_verify(workspace: Workspace) -> object:
    return _command("audit", "verify", "--workspace", str(workspace.folder))


def command_audit_list(workspace: Workspace) -> object:
    return _command("audit", "list", "--workspace", str(workspace.folder))


def _command(*arguments: str) -> int:
    """The command as a process of its own would run it, without the start of Python."""
    from MedSeqFTLib.commands.app import app

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        app(list(arguments), prog_name="medseqft")
    return 0


def known_volumes(workspace: Workspace) -> object:
    from MedSeqFTLib.workspace.worklist import worklist_entries

    return len(worklist_entries(workspace, TASK))


def known_again(workspace: Workspace) -> object:
    from MedSeqFTLib.workspace.worklist import worklist_entries

    worklist_entries(workspace, TASK)
    return lambda: len(worklist_entries(workspace, TASK))


def new_case_checks(workspace: Workspace) -> object:
    """What accepting a case asks of the others: is the name free, is the scan known; and the line in the log."""
    from MedSeqFTLib.jobs.starting import free_case_id
    from MedSeqFTLib.workspace.audit import note
    from MedSeqFTLib.workspace.cases import check_new_case

    name = free_case_id(workspace, TASK, "case-00001")
    case = a_case(name, "0" * 64)
    with workspace.lock():
        check_new_case(workspace, case)
        path = workspace.case_folder(TASK, name) / "case.json"
        note(workspace, "case accepted", f"{TASK}/{name}", {path: case})
    return name


def audit_begins(workspace: Workspace) -> object:
    """The first line in a workspace that has none, of an older program: it names every document."""
    from MedSeqFTLib.workspace.audit import note

    os.replace(workspace.folder / AUDIT_FILE, workspace.folder / "aside.jsonl")
    try:
        with workspace.lock():
            note(workspace, "rolled back", TASK, {})
    finally:
        os.replace(workspace.folder / "aside.jsonl", workspace.folder / AUDIT_FILE)
    return None


def names_to_export(workspace: Workspace) -> object:
    from MedSeqFTLib.imaging.exporting import exportable

    return len(exportable(workspace, TASK))


def find_to_export(workspace: Workspace) -> object:
    from MedSeqFTLib.imaging.exporting import _source

    return _source(workspace, TASK, "case-00007", None)


def report(workspace: Workspace) -> object:
    from MedSeqFTLib.jobs.reporting import write_workspace_report

    class Quiet:
        def stage(self, *_: object) -> None: ...

        def step(self, *_: object) -> None: ...

    return write_workspace_report(workspace, Quiet())  # type: ignore[arg-type]


def preflight(workspace: Workspace) -> object:
    from MedSeqFTLib.learning.forecast import next_adaptation
    from MedSeqFTLib.learning.preflight import check_adaptable
    from MedSeqFTLib.learning.settings import adapt_settings

    settings = adapt_settings("quick", {"selection": "random"})
    check_adaptable(workspace, TASK, settings)
    return next_adaptation(workspace, TASK, settings)


def suggestion(workspace: Workspace) -> object:
    """The most unlike of those that were segmented only, and the least confident."""
    from MedSeqFTLib.imaging.descriptor import distances
    from MedSeqFTLib.workspace.worklist import worklist_entries

    found = worklist_entries(workspace, TASK)
    ours = [entry.descriptor for entry in found if entry.case is None and entry.descriptor]
    theirs = [entry.descriptor for entry in found if entry.case is not None and entry.descriptor]
    return max(distances(ours, theirs)), min(entry.proposal.confidence for entry in found if entry.proposal)


def race(workspace: Workspace) -> object:
    """The bookkeeping of MDS, from a file of losses: passes that take no time, and what is told after each."""
    import numpy as np

    from MedSeqFTLib.learning.selection import buffer
    from MedSeqFTLib.learning.selection.loss_file import LossFile
    from MedSeqFTLib.learning.settings import adapt_settings

    cases = {case.id: None for case in workspace.cases(TASK, Role.TRAIN)}
    random = np.random.default_rng(0)
    means = dict(zip(cases, random.normal(1.0, 0.3, len(cases)), strict=True))

    class Scorer:
        at_once = 5

    class Quiet:
        def stage(self, *_: object) -> None: ...

        def step(self, *_: object) -> None: ...

        def message(self, *_: object) -> None: ...

    def losses(some: dict[str, Any], _scorer: object, passes: range) -> dict[str, list[float]]:
        return {case: [float(means[case] + random.normal(0, 0.1)) for _ in passes] for case in some}

    buffer.pretext_losses = losses  # type: ignore[assignment]
    rules = buffer.rules_of(adapt_settings("quick", {}), 20, 5)
    with tempfile.TemporaryDirectory() as folder:
        file = LossFile(Path(folder) / "losses.jsonl", "benchmark")
        verdicts = buffer._Scoring(cases, Scorer(), rules, Quiet(), file).run()  # type: ignore[arg-type]
    return sum(verdict.kept for verdict in verdicts.values())


ACTS: dict[str, Act] = {
    "list the cases": list_cases,
    "list them again": list_again,
    "medseqft case list": command_list,
    "all volumes that are known (worklist)": known_volumes,
    "the same again": known_again,
    "next case: which, and why": suggestion,
    "checks before a case is accepted, log": new_case_checks,
    "log begun in an old workspace": audit_begins,
    "medseqft audit list": command_audit_list,
    "medseqft audit verify": command_verify,
    "names that can be exported": names_to_export,
    "find one of them": find_to_export,
    "preflight of an adaptation": preflight,
    "report": report,
    "MDS: bookkeeping of a race": race,
}


def measured(act: Act, folder: Path) -> tuple[float, float, float]:
    """Seconds on the wall, those of computing, and MiB of the peak over the interpreter with the library's modules."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, act, folder))
    process.start()
    found: tuple[float, float, float] = receiver.recv()
    process.join()
    return found


def _measure(sender: Any, act: Act, folder: Path) -> None:
    workspace = Workspace.open(folder)
    before = _peak()
    began, computed = time.perf_counter(), time.process_time()
    result = act(workspace)
    if callable(result):  # what came before is not counted
        began, computed = time.perf_counter(), time.process_time()
        result()
    sender.send((time.perf_counter() - began, time.process_time() - computed, _peak() - before))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--only", default="", help="acts whose name has this in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        workspace = make(Path(name), options.cases)
        print(f"{options.cases} cases, made in {time.perf_counter() - began:.1f} s; Python {sys.version.split()[0]}")
        print(f"{'':42s}{'seconds':>9s}{'computing':>11s}{'MiB':>8s}")
        for title, act in ACTS.items():
            if options.only in title:
                seconds, computing, memory = measured(act, workspace.folder)
                print(f"{title:42s}{seconds:9.2f}{computing:11.2f}{memory:8.0f}", flush=True)


if __name__ == "__main__":
    main()
