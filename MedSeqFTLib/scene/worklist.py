"""The volumes of the scene and of the workspace in one list, and which one to take next."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import slicer

from MedSeqFTLib.errors import InputError, MedSeqFTError
from MedSeqFTLib.imaging.descriptor import Descriptor, distances
from MedSeqFTLib.scene.cases import StoredCase, StoringJob, place_case, read_case
from MedSeqFTLib.scene.drafts import load_draft, read_draft
from MedSeqFTLib.scene.marks import CASE, DRAFT, NAME, PIXELS, PROPOSAL, is_edited, segmentations_of
from MedSeqFTLib.scene.proposals import StoredProposal, place_proposal, read_proposal
from MedSeqFTLib.scene.restoring import Restorable
from MedSeqFTLib.scene.volumes import descriptor_of, known_name, volume_grid
from MedSeqFTLib.workspace.drafts import Draft, drafts
from MedSeqFTLib.workspace.schema import Case, Segmentation
from MedSeqFTLib.workspace.worklist import Entry, worklist_entries
from MedSeqFTLib.workspace.workspace import Workspace

Status = Literal["not segmented", "proposed", "edited", "being stored", "not stored", "accepted"]
Method = Literal["lowest confidence", "most unlike", "random"]


@dataclass(frozen=True)
class Row:
    """One volume. `entry` is what the workspace knows of it, `volume` its node; one of them may be missing.

    draft: edits that were kept when their scene was closed, and are not in the scene.
    looks: what kind of image its node is, if that was looked at.
    """

    name: str
    status: Status
    entry: Entry | None = None
    volume: Any = None
    draft: Draft | None = None
    looks: Descriptor | None = None

    @property
    def is_open(self) -> bool:
        """True if nobody has begun to correct it."""
        return self.status in ("not segmented", "proposed")

    @property
    def confidence(self) -> float | None:
        """How sure the model was of its newest proposal."""
        return self.entry.proposal.confidence if self.entry and self.entry.proposal else None

    @property
    def descriptor(self) -> Descriptor | None:
        """What kind of image it is; None if that is not known."""
        if known := self.looks or (self.entry and self.entry.descriptor):
            return known
        return descriptor_of(self.volume) if self.volume is not None and _is_usable(self.volume) else None


@dataclass(frozen=True)
class Suggestion:
    """Which volume to take next: the first of `candidates` by a method, with its score (random: the seed)."""

    row: Row
    method: Method
    score: float
    candidates: int


class Stored(NamedTuple):
    """What the workspace keeps of a row, read: its case or its proposal, if that is wanted, and its edits."""

    kept: StoredCase | StoredProposal | None
    draft: Restorable | None


def worklist(workspace: Workspace, task: str, scene: Any, jobs: Sequence[StoringJob] = ()) -> list[Row]:
    """One row for each volume of the scene and of the workspace.

    A volume of the scene is found in the workspace by the mark that it got when it was opened, segmented or accepted,
    else by its name, size and spacing.

    Args:
        jobs: the cases that are being stored, and those that could not be.
    """
    waiting = {job.name: job for job in jobs if job.folder.job.task == task}
    known = known_volumes(workspace, task)
    rows, left = [], dict(known.rows)
    for volume in _volumes(scene):
        entry = known.entry_of(volume, known_name(workspace, volume), left)
        if entry:
            del left[entry.record.pixel_sha256]
        job = next((job for job in jobs if job.is_of(volume)), None)
        name = entry.name if entry else job.name if job else str(volume.GetName())
        job = job or waiting.get(name)
        waiting = {key: other for key, other in waiting.items() if other is not job}
        rows.append(Row(name, _status(entry, volume, job), entry, volume))
    for name, job in waiting.items():
        entry = next((entry for entry in known.named(name, left) if entry.name == name), None)
        row = Row(name, _status(entry, None, job), entry)
        if entry:
            left[entry.record.pixel_sha256] = row
        else:
            rows.append(row)
    for draft in _closed_drafts(workspace, task, scene):
        _add_draft(rows, left, draft)
    return sorted([*rows, *left.values()], key=lambda row: row.name.casefold())


def known_volumes(workspace: Workspace, task: str) -> Known:
    """What `worklist` begins with. May be done on a thread before. Raises as `worklist_entries`."""
    found = worklist_entries(workspace, task)
    return workspace.remembered.derived(("rows", task), lambda: Known(found))


class Known:
    """What the workspace knows of a task's volumes, to be looked up among thousands. `rows`: by pixel_sha256."""

    def __init__(self, found: Sequence[Entry]) -> None:
        self.rows = {entry.record.pixel_sha256: Row(entry.name, _status(entry, None, None), entry) for entry in found}
        self._names: dict[str, list[Entry]] = {}
        for entry in found:
            self._names.setdefault(entry.name.casefold(), []).append(entry)

    def named(self, name: str, left: Container[str]) -> list[Entry]:
        """Those of a name, in capitals or not, that are left."""
        same = self._names.get(name.casefold(), [])
        return [entry for entry in same if entry.record.pixel_sha256 in left]

    def entry_of(self, volume: Any, name: str, left: Mapping[str, Row]) -> Entry | None:
        """By the mark of a volume, else by its name and grid; of those that are left."""
        if pixels := volume.GetAttribute(PIXELS):
            return left[pixels].entry if pixels in left else None
        same = self.named(name, left)
        return next((entry for entry in same if _fits(volume, entry.record)), None)


def reading(workspace: Workspace, task: str, row: Row) -> Callable[[], Stored]:
    """What reads all that `open_row` needs of stored files; may be done on a thread, as it touches no scene.

    Raises as `read_case` and `read_proposal`.
    """
    kept = _reading_kept(workspace, task, row)
    return lambda: Stored(kept(), read_draft(workspace, row.draft) if row.draft else None)


def _reading_kept(workspace: Workspace, task: str, row: Row) -> Callable[[], StoredCase | StoredProposal | None]:
    case = row.entry.case if row.entry else None
    proposal = row.entry.proposal if row.entry else None
    name = case.id if case else row.name
    if row.volume is None:
        return lambda: read_case(workspace, task, name)
    if row.draft or _in_scene(row) is not None:
        return lambda: None
    if case is not None:
        return lambda: read_case(workspace, task, name)
    return lambda: read_proposal(workspace, proposal) if proposal else None


def open_row(workspace: Workspace, task: str, row: Row, scene: Any, stored: Stored | None = None) -> tuple[Any, Any]:
    """Volume and segmentation of a row, as they are in the scene, else from the workspace. Segmentation: maybe None.

    What somebody edited comes before what the workspace keeps, and what is in the scene before a second copy.

    Args:
        stored: what `reading` has read, if that was done before.

    Raises:
        InputError: the workspace does not keep the volume.
        GeometryError, WorkspaceError: what is kept does not fit, or is damaged.
    """
    volume, stored = row.volume, stored or reading(workspace, task, row)()
    if isinstance(stored.kept, StoredCase):
        volume, segmentation = place_case(stored.kept, scene)
    elif isinstance(stored.kept, StoredProposal):
        segmentation = place_proposal(stored.kept, volume)
    else:
        segmentation = _in_scene(row)
    return volume, load_draft(workspace, row.draft, volume, stored.draft) if row.draft else segmentation


def _in_scene(row: Row) -> Any:
    """The segmentation of the row's volume that is there: edited, or begun as what the workspace keeps of it."""
    nodes = sorted(segmentations_of(row.volume), key=is_edited)
    kept = {*_kept(row.entry)} if row.entry else set()
    found = [node for node in nodes if not row.entry or is_edited(node) or _begun_as(node) & kept]
    return found[-1] if found else None


def _kept(entry: Entry) -> list[str]:
    """Hashes of the segmentation that counts: of the case, or else of the proposal."""
    if entry.case:
        return [entry.case.segmentation_sha256]
    return [entry.proposal.segmentation_sha256] if entry.proposal else []


def _begun_as(node: Any) -> set[str]:
    return {str(node.GetAttribute(mark)) for mark in (PROPOSAL, CASE)}


def looked_at(rows: Sequence[Row]) -> list[Row]:
    """The rows with everything that `suggest` asks of the scene, so that it may be done on a thread."""
    return [row if row.volume is None else replace(row, looks=row.descriptor) for row in rows]


def suggest(rows: Sequence[Row], method: Method) -> Suggestion:
    """Which volume to correct next, of those that nobody has begun with. Raises InputError if there is none.

    These are plain choices of ours, apart from MDS, which chooses what an adaptation keeps in mind.

    Args:
        method: "lowest confidence": the proposal that the model was least sure of; "most unlike": the volume that is
            farthest from the accepted ones in size and intensity; "random": drawn with the number of accepted cases
            as seed, so that asking again gives the same until a case is accepted.
    """
    candidates = [row for row in rows if row.is_open]
    if not candidates:
        raise InputError("Every volume of the list is accepted or being corrected: load or segment another one.")
    return _METHODS[method](candidates, [row for row in rows if row.status == "accepted"])


def _least_sure(candidates: Sequence[Row], _accepted: Sequence[Row]) -> Suggestion:
    known = [(row.confidence, row) for row in candidates if row.confidence is not None]
    if not known:
        raise InputError("No proposal waits whose confidence is known: segment volumes first, or choose another way.")
    score, row = min(known, key=lambda pair: pair[0])
    return Suggestion(row, "lowest confidence", score, len(known))


def _most_unlike(candidates: Sequence[Row], accepted: Sequence[Row]) -> Suggestion:
    ours = [(row, descriptor) for row in candidates if (descriptor := row.descriptor)]
    theirs = [descriptor for row in accepted if (descriptor := row.descriptor)]
    if not ours or not theirs:
        missing = "no case is accepted yet" if ours else "no volume that can be looked at waits"
        raise InputError(f"Nothing can be compared: {missing}; choose another way.")
    scores = distances([descriptor for _, descriptor in ours], theirs)
    best = max(range(len(ours)), key=lambda index: scores[index])
    return Suggestion(ours[best][0], "most unlike", scores[best], len(ours))


def _drawn(candidates: Sequence[Row], accepted: Sequence[Row]) -> Suggestion:
    seed = len(accepted)
    row = random.Random(seed).choice(sorted(candidates, key=lambda row: row.name))
    return Suggestion(row, "random", float(seed), len(candidates))


_METHODS: dict[Method, Callable[[Sequence[Row], Sequence[Row]], Suggestion]] = {
    "lowest confidence": _least_sure,
    "most unlike": _most_unlike,
    "random": _drawn,
}


def _volumes(scene: Any) -> list[Any]:
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    return [node for node in nodes if not node.IsA("vtkMRMLLabelMapVolumeNode") and not node.GetHideFromEditors()]


def _fits(volume: Any, record: Case | Segmentation | Draft) -> bool:
    if not _is_usable(volume):
        return False
    grid = volume_grid(volume)
    same = [abs(ours - theirs) < 1e-6 for ours, theirs in zip(grid.spacing, record.spacing, strict=True)]
    return grid.size == record.size and all(same)


def _is_usable(volume: Any) -> bool:
    try:
        volume_grid(volume)
    except MedSeqFTError:
        return False
    return True


def _closed_drafts(workspace: Workspace, task: str, scene: Any) -> list[Draft]:
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene)
    shown = {node.GetAttribute(DRAFT) for node in nodes}
    return [draft for draft in drafts(workspace, task) if draft.id not in shown]


def _add_draft(rows: list[Row], left: dict[str, Row], draft: Draft) -> None:
    """Put a draft into the row of its volume; the newest wins. A row more if its volume is unknown here."""
    number = next((number for number, row in enumerate(rows) if _is_of(draft, row)), None)
    if number is not None:
        rows[number] = replace(rows[number], status="edited", draft=draft)
    elif draft.pixel_sha256 in left:
        left[draft.pixel_sha256] = replace(left[draft.pixel_sha256], status="edited", draft=draft)
    else:
        rows.append(Row(draft.volume, "edited", draft=draft))


def _is_of(draft: Draft, row: Row) -> bool:
    if draft.pixel_sha256 and row.entry:
        return row.entry.record.pixel_sha256 == draft.pixel_sha256
    names = (row.volume.GetName(), row.volume.GetAttribute(NAME)) if row.volume is not None else ()
    return draft.volume in names and _fits(row.volume, draft)


def _status(entry: Entry | None, volume: Any, job: StoringJob | None) -> Status:
    if job is not None:
        return "being stored" if job.is_active else "not stored"
    if volume is not None and any(is_edited(node) for node in segmentations_of(volume)):
        return "edited"
    if entry is None:
        return "not segmented"
    return "accepted" if entry.case else "proposed"
