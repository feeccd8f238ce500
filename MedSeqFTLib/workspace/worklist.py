"""What a workspace knows of the volumes of a task: accepted cases, proposals, and what is in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from MedSeqFTLib.workspace.schema import Case, Segmentation
from MedSeqFTLib.workspace.segmentations import segmentations
from MedSeqFTLib.workspace.workspace import Workspace


@dataclass(frozen=True)
class Entry:
    """One volume. It is a case, or was segmented, or both."""

    name: str
    case: Case | None = None
    proposal: Segmentation | None = None  # the newest

    @property
    def record(self) -> Case | Segmentation:
        """What tells size, spacing and pixels."""
        found = self.case or self.proposal
        assert found is not None
        return found

    @property
    def version(self) -> str | None:
        """That proposed it: of a case, the one whose proposal was corrected."""
        if self.case:
            return self.case.proposed_by
        return self.proposal.version if self.proposal else None

    @property
    def seconds(self) -> float | None:
        """Spent on the case, its revisions included; None: not counted."""
        if self.case is None:
            return None
        every = [self.case.seconds_spent, *(earlier.seconds_spent for earlier in self.case.revisions)]
        counted = [seconds for seconds in every if seconds is not None]
        return sum(counted) if counted else None

    @property
    def descriptor(self) -> tuple[float, ...] | None:
        """See MedSeqFTLib.imaging.descriptor."""
        known = [record.descriptor for record in (self.case, self.proposal) if record and record.descriptor]
        return known[0] if known else None


def worklist_entries(workspace: Workspace, task: str) -> list[Entry]:
    """All volumes of a task that the workspace knows, cases first. Raises as `Workspace.cases` and `segmentations`."""
    cases, proposals = workspace.cases(task), segmentations(workspace, task)

    def made() -> list[Entry]:
        found = {case.pixel_sha256: Entry(case.id, case) for case in cases}
        return list(_with_proposals(found, proposals).values())

    return list(workspace.remembered.derived(("entries", task), made))


def _with_proposals(found: dict[str, Entry], records: Iterable[Segmentation]) -> dict[str, Entry]:
    """Oldest first, so that the newest stays."""
    for record in records:
        entry = found.get(record.pixel_sha256, Entry(record.name))
        found[record.pixel_sha256] = replace(entry, proposal=record)
    return found
