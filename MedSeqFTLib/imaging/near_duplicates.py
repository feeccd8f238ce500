"""Is a scan in the workspace already, in another file? Then it must not be a train case and a validation case at once.

Three looks, each closer and at fewer cases: thumbnails from afar, thumbnails cell by cell, and the stored scans
themselves. Only the last decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from MedSeqFTLib.imaging.likeness import Scan, likeness
from MedSeqFTLib.imaging.thumbnails import Known, known_cases, most_alike, readable_scan
from MedSeqFTLib.workspace.cases import SameScanError
from MedSeqFTLib.workspace.schema import Case, NearDuplicate
from MedSeqFTLib.workspace.workspace import Workspace

ALIKE = 0.8  # likeness from which two scans count as one
PATIENCE = 5.0  # seconds in which thumbnails of older cases are made when another case is accepted
_CELLS = 48  # on the longest side, at most
SCANS = 6  # of each role that are read and compared
_WORTH_A_LOOK = 0.45  # likeness of thumbnails below which the scans are not read


class NearDuplicateError(SameScanError):
    """The scan is in the workspace already, as a case of the other role: `case`."""


def compare(workspace: Workspace, case: Case, scan: Scan, reason: str = "") -> Case:
    """The case with what was found of near-duplicates. Hold the workspace's lock.

    Args:
        reason: why it is another scan all the same; without one, it is refused beside a case of the other role.

    Raises:
        NearDuplicateError: a case of the other role shows the same scan.
        WorkspaceError: the record of a case is damaged.
        StorageError: a thumbnail cannot be written.
    """
    known, missing = known_cases(workspace, PATIENCE, case)
    found = next(near_duplicates(workspace, case, scan, known), None)
    if found is not None and found[0].role is not case.role and not reason.strip():
        raise _refused(case, *found)
    return case.model_copy(update={"near_duplicate": found[1] if found else None, "not_compared": len(missing)})


def same_scan(first: Scan, second: Scan) -> float:
    """How alike two scans are, 0..1, on a lattice no finer than either; from `ALIKE` on they count as one."""
    finest = max(first.sides.max(), second.sides.max()) / _CELLS
    cell = np.maximum(np.maximum(first.spacing, second.spacing), finest)
    return likeness(first.sample(cell), second.sample(cell))


def near_duplicates(
    workspace: Workspace, case: Case, scan: Scan, known: Sequence[Known]
) -> Iterator[tuple[Case, NearDuplicate]]:
    """The stored cases that show the scan of a new `case`, those of the other role first.

    The very same voxels in a case of the same role are left out: one scan may serve several tasks.
    A case whose image is damaged is passed over.
    """
    alike = [(score, k.case) for score, k in most_alike(scan, known) if score >= _WORTH_A_LOOK]
    other, same = ([pair for pair in alike if (pair[1].role is case.role) is own] for own in (False, True))
    for _, stored in [*other[:SCANS], *same[:SCANS]]:
        identical = stored.pixel_sha256 == case.pixel_sha256
        if identical and stored.role is case.role:
            continue
        stored_scan = scan if identical else readable_scan(workspace, stored)
        score = same_scan(scan, stored_scan) if stored_scan else 0.0
        if score >= ALIKE:
            yield stored, NearDuplicate(task=stored.task, case=stored.id, role=stored.role, likeness=round(score, 3))


def _refused(case: Case, stored: Case, found: NearDuplicate) -> NearDuplicateError:
    """What to tell whoever wants to accept `case`."""
    return NearDuplicateError(
        f"{case.source_image or 'The image'} shows the same scan as the {stored.role.value} case {stored.id} of task "
        f"{stored.task} (likeness {found.likeness:.2f}; from {ALIKE:g} on they count as one), so it cannot become a "
        f"{case.role.value} case: what is measured must not be learned. Accept it as a {stored.role.value} case; if it "
        "is another scan after all, accept it with --allow-near-duplicate and the reason (in Slicer's Python console: "
        "near_duplicate_reason), which the audit log keeps.",
        stored,
    )
