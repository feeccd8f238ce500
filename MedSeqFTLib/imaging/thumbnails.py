"""A coarse picture of every case, kept in likeness/TASK.jsonl: enough to find the few that may show the same scan.

The files hold nothing that cannot be made again from the images; a line that is missing or damaged is made anew.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Base64UrlBytes, ValidationError, model_validator
from scipy import fft

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.likeness import Array, Likeness, Sampled, Scan
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.workspace.files import append_line, remove_torn_line, storage_errors
from MedSeqFTLib.workspace.schema import Case, Document, Vector3
from MedSeqFTLib.workspace.workspace import Workspace

FOLDER = "likeness"
_CELLS = 24  # on the longest side, at most; at least half as many
_OUTSIDE = -128
_CLOSELY = 200  # cases that are compared cell by cell; of more, those that look most alike from afar
_FROM_AFAR = 16  # cells of the cube in which they are compared from afar
_AT_ONCE = 500  # cases, which bounds the memory
_SIDES = 0.6  # the shorter of two sides of scans that may be the same, as a share of the longer


class Thumbnail(Document):
    """Fine structure of a case's scan, as far as cells of some millimetres show it: one line of a file."""

    case: str
    pixel_sha256: str
    sides: Vector3  # of the scan without padding, x, y, z in mm
    cell: float  # mm; a power of 2
    shape: tuple[int, int, int]  # z, y, x
    values: Base64UrlBytes  # signed; -128 lies outside the scan

    @model_validator(mode="after")
    def _values_fill_the_shape(self) -> Thumbnail:
        if len(self.values) != np.prod(self.shape):
            raise ValueError(f"{len(self.values)} values do not fill the shape {self.shape}")
        return self

    @classmethod
    def of(cls, case: Case, scan: Scan) -> Thumbnail:
        """Of a case and its scan."""
        cell = float(2.0 ** np.ceil(np.log2(scan.sides.max() / _CELLS)))
        sampled = scan.sample(np.full(3, cell))
        scaled = np.clip(np.round(sampled.values * 127 / max(float(np.abs(sampled.values).max()), 1e-6)), -127, 127)
        cells = np.where(sampled.inside, scaled, _OUTSIDE).astype(np.int8)
        return cls(
            case=case.id,
            pixel_sha256=case.pixel_sha256,
            sides=tuple(scan.sides.tolist()),
            cell=cell,
            shape=cells.shape,
            values=base64.urlsafe_b64encode(cells.tobytes()),
        )

    def sampled(self) -> Sampled:
        """To be compared."""
        cells = np.frombuffer(self.values, np.int8).reshape(self.shape)
        inside = cells != _OUTSIDE
        return Sampled(np.where(inside, cells / np.float32(127), 0).astype(np.float32), inside)


@dataclass(frozen=True)
class Known:
    """A stored case with its thumbnail."""

    case: Case
    thumbnail: Thumbnail


def known_cases(workspace: Workspace, seconds: float, first: Case | None = None) -> tuple[list[Known], list[Case]]:
    """The cases of all tasks with their thumbnails, and those that have none yet. Hold the workspace's lock.

    Args:
        seconds: for making those that are missing, as of cases that an older program stored.
        first: begin with the cases that matter most to this one: of its task, and of the other role.

    A case whose image is damaged counts as one that has none yet: it must not keep others from being accepted.

    Raises:
        WorkspaceError: the record of a case is damaged.
        StorageError: a thumbnail cannot be written.
    """
    until = time.monotonic() + seconds
    cases = workspace.cases()
    found = {task: read_thumbnails(workspace, task) for task in dict.fromkeys(case.task for case in cases)}
    known, missing = [], []
    for case in cases:
        thumbnail = found[case.task].get(case.id)
        fits = thumbnail is not None and thumbnail.pixel_sha256 == case.pixel_sha256
        known += [Known(case, thumbnail)] if thumbnail and fits else []
        missing += [] if fits else [case]
    if first is not None:
        missing.sort(key=lambda case: (case.task != first.task, case.role is first.role))
    left = []
    for case in missing:
        scan = readable_scan(workspace, case) if time.monotonic() < until else None
        if scan is None:
            left.append(case)
        else:
            known.append(Known(case, keep(workspace, case.task, Thumbnail.of(case, scan))))
    return known, left


def readable_scan(workspace: Workspace, case: Case) -> Scan | None:
    """The scan of a stored case; None if its image is damaged or missing."""
    try:
        return Scan.of(read_volume(workspace.image_path(case)))
    except InputError:
        return None


def read_thumbnails(workspace: Workspace, task: str) -> dict[str, Thumbnail]:
    """By case; the last line of a case counts. Damaged lines are left out."""
    path = _path(workspace, task)
    if not path.exists():
        return {}
    with path.open("rb") as file:
        return {thumbnail.case: thumbnail for thumbnail in _parsed(file)}


def _parsed(lines: Iterable[bytes]) -> Iterator[Thumbnail]:
    for line in lines:
        with suppress(ValidationError):
            yield Thumbnail.model_validate_json(line)


def keep(workspace: Workspace, task: str, thumbnail: Thumbnail) -> Thumbnail:
    """Add it to the file of the task. Hold the workspace's lock. Raises StorageError."""
    path = _path(workspace, task)
    with storage_errors(path):
        path.parent.mkdir(exist_ok=True)
        remove_torn_line(path)
        with path.open("ab", buffering=0) as file:
            append_line(file, path, thumbnail.model_dump_json().encode("utf-8") + b"\n", flush=False)
    return thumbnail


def _path(workspace: Workspace, task: str) -> Path:
    return workspace.folder / FOLDER / f"{task}.jsonl"


def most_alike(scan: Scan, known: Sequence[Known]) -> list[tuple[float, Known]]:
    """The cases that may show the same scan, with the likeness of their thumbnails to it, the most alike first."""
    sides, theirs = scan.sides, np.array([k.thumbnail.sides for k in known]).reshape(-1, 3)
    fits = (np.minimum(sides, theirs) >= _SIDES * np.maximum(sides, theirs)).all(1)
    candidates = [k for k, fit in zip(known, fits, strict=True) if fit]
    scored = []
    for cell in dict.fromkeys(k.thumbnail.cell for k in candidates):
        ours = scan.sample(np.full(3, cell))
        same = [k for k in candidates if k.thumbnail.cell == cell]
        chosen = same if len(same) <= _CLOSELY else [same[i] for i in _nearest_from_afar(ours, same)]
        likeness = Likeness(ours)
        scored += [(likeness.to(k.thumbnail.sampled()), k) for k in chosen]
    return sorted(scored, key=lambda pair: -pair[0])


def _nearest_from_afar(ours: Sampled, known: Sequence[Known]) -> NDArray[np.intp]:
    """Indices of the cases whose correlation with half as many cells along each side is highest; quick and rough."""
    side = (_FROM_AFAR,) * 3
    turned = np.conj(fft.rfftn(_halved(ours.values), side))
    scores: list[NDArray[np.float32]] = []
    for start in range(0, len(known), _AT_ONCE):
        batch = np.zeros((len(known[start : start + _AT_ONCE]), *side), np.float32)
        for cube, one in zip(batch, known[start : start + _AT_ONCE], strict=True):
            cube[:] = _halved(one.thumbnail.sampled().values)
        norms = np.sqrt((batch**2).sum((1, 2, 3))) + 1e-6
        moved = fft.irfftn(fft.rfftn(batch, axes=(1, 2, 3)) * turned, side, axes=(1, 2, 3))
        scores.append(moved.max((1, 2, 3)) / norms)
    return np.argsort(-np.concatenate(scores))[:_CLOSELY]


def _halved(values: Array) -> Array:
    """Means of 2 x 2 x 2 cells, in the corner of a cube."""
    counts = [(side + 1) // 2 for side in values.shape]
    even = np.zeros([2 * count for count in counts], np.float32)
    even[tuple(map(slice, values.shape))] = values
    for axis in range(3):  # far quicker than a mean over three axes
        pairs = np.moveaxis(even, axis, 0)
        even = np.moveaxis(pairs[::2] + pairs[1::2], 0, axis)
    cube = np.zeros((_FROM_AFAR,) * 3, np.float32)
    cube[tuple(map(slice, counts))] = even / 8
    return cube
