"""Prepared cases on disk: compressed in blocks, so that a random crop reads only what it needs.

A cache entry is named by everything that its content depends on; it can be deleted at any time and is made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.imaging.preprocessing import network_values
from MedSeqFTLib.workspace.files import check_sha256, new_folder_atomically, read_json, sha256_of, write_json
from MedSeqFTLib.workspace.schema import Document

FORMAT = 2
_HASHES = "hashes.json"
BLOCK = 32  # voxels a side: the unit of decompression
VOXELS_PER_CLASS = 10_000  # foreground positions kept for sampling; all of them would be gigabytes

Index3 = tuple[int, int, int]


def cache_key(*parts: object) -> str:
    """A short name for everything that a prepared case depends on. `parts` must be JSON-serialisable."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, default=lambda part: part.model_dump(mode="json"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:20]


class PreparedCase:
    """One case as the network sees it, read from disk crop by crop.

    Attributes:
        shape: voxels, z, y, x.
        foreground: class index -> positions [n, 3] (z, y, x) of at most 10,000 of its voxels.
        known: bool [classes], False where the reference does not speak of a class; its voxels may lie anywhere.
    """

    def __init__(self, folder: Path) -> None:
        self._image = blosc2.open(str(folder / "image.b2nd"), mode="r")
        labels = folder / "labels.b2nd"
        self._labels = blosc2.open(str(labels), mode="r") if labels.exists() else None
        self.shape: Index3 = tuple(int(side) for side in self._image.shape)  # type: ignore[assignment]
        positions = np.load(folder / "foreground.npy", allow_pickle=False)
        self.foreground = {int(c): positions[positions[:, 0] == c, 1:] for c in np.unique(positions[:, 0])}
        self.known: NDArray[np.bool_] = np.load(folder / "known.npy", allow_pickle=False)

    def image_crop(self, start: Index3, size: Index3) -> NDArray[np.float32]:
        """Network values [z, y, x]; -1 (the lowest intensity) where the crop leaves the volume."""
        return network_values(_crop(self._image, start, size))

    def label_crop(self, start: Index3, size: Index3) -> NDArray[np.uint8]:
        """Class indices [z, y, x]; 0 (background) where the crop leaves the volume."""
        if self._labels is None:
            raise ValueError("an unlabelled case has no label crop")
        return _crop(self._labels, start, size)


def _crop(stored: Any, start: Index3, size: Index3) -> NDArray[Any]:
    """Read a crop; 0 where it leaves the volume, which is the lowest intensity level and the background."""
    spans = [(max(s, 0), min(s + n, side)) for s, n, side in zip(start, size, stored.shape, strict=True)]
    if all(high - low == n for (low, high), n in zip(spans, size, strict=True)):
        return np.asarray(stored[tuple(slice(*span) for span in spans)])
    crop = np.zeros(size, stored.dtype)
    if all(low < high for low, high in spans):
        place = tuple(slice(low - s, high - s) for (low, high), s in zip(spans, start, strict=True))
        crop[place] = stored[tuple(slice(*span) for span in spans)]
    return crop


class CaseCache:
    """The folder of prepared cases of a workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str, prepare: Callable[[], Prepared]) -> PreparedCase:
        """The prepared case named `key`; `prepare` is called only if it is not there.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        folder = self.folder / key
        if folder.is_dir() and not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)  # it is made again
        if not folder.is_dir():
            prepared = prepare()
            try:
                with new_folder_atomically(folder) as temporary:
                    write_prepared(temporary, prepared)
            except WorkspaceError:
                if not folder.is_dir():
                    raise
                # another process was quicker; an entry of this name has this content
        return PreparedCase(folder)


@dataclass(frozen=True)
class Prepared:
    """One case in memory: levels int16 [z, y, x], class indices uint8 [z, y, x] and which classes are known."""

    image: NDArray[np.int16]
    labels: NDArray[np.uint8] | None = None  # None: unlabelled
    known: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


class _Hashes(Document):
    """hashes.json of a prepared case: file name -> SHA-256. A flipped bit would train the network on other voxels."""

    files: dict[str, str]


def _is_whole(folder: Path) -> bool:
    """True also for what an older program prepared, which has no hashes."""
    if not (folder / _HASHES).exists():
        return True
    try:
        for name, sha256 in read_json(folder / _HASHES, _Hashes).files.items():
            check_sha256(folder / name, sha256)
    except WorkspaceError:
        return False
    return True


def write_prepared(folder: Path, prepared: Prepared) -> None:
    """Write one prepared case into an existing folder."""
    _store(folder / "image.b2nd", prepared.image)
    if prepared.labels is not None:
        _store(folder / "labels.b2nd", prepared.labels)
    _save(folder / "foreground.npy", _foreground(prepared.labels))
    _save(folder / "known.npy", prepared.known)
    write_json(folder / _HASHES, _Hashes(files={path.name: sha256_of(path) for path in folder.iterdir()}))


def _store(path: Path, array: NDArray[Any]) -> None:
    blocks = tuple(min(BLOCK, side) for side in array.shape)
    chunks = tuple(min(4 * BLOCK, side) for side in array.shape)
    parameters = {"codec": blosc2.Codec.LZ4HC, "clevel": 9, "filters": [blosc2.Filter.SHUFFLE]}
    blosc2.asarray(
        np.ascontiguousarray(array), urlpath=str(path), mode="w", chunks=chunks, blocks=blocks, cparams=parameters
    )


def _save(path: Path, array: NDArray[Any]) -> None:
    """In numpy's file format. numpy by itself does not notice where the last bytes of a small array find no room."""
    memory = io.BytesIO()
    np.save(memory, array, allow_pickle=False)
    path.write_bytes(memory.getvalue())


def _foreground(labels: NDArray[np.uint8] | None) -> NDArray[np.int32]:
    """Rows (class, z, y, x), the same for the same labels."""
    rows: list[NDArray[np.int32]] = [np.empty((0, 4), np.int32)]
    classes: Sequence[int] = [] if labels is None else [int(c) for c in np.unique(labels) if c]
    for c in classes:
        positions = np.argwhere(labels == c).astype(np.int32)
        if len(positions) > VOXELS_PER_CLASS:
            positions = np.random.default_rng(c).choice(positions, VOXELS_PER_CLASS, replace=False, shuffle=False)
        rows.append(np.column_stack([np.full(len(positions), c, np.int32), positions]))
    return np.concatenate(rows)
