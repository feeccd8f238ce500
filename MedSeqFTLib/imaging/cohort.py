"""The demo cohort: semi-synthetic MR tasks of different contrast, made from the average brain inside nilearn.

A cohort is a folder in the layout of the Medical Segmentation Decathlon. It shows how the program works and lets it be
tested without patient data; it says nothing about how well a model would do on patients.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from MedSeqFTLib.errors import InputError, StorageError
from MedSeqFTLib.imaging.anatomy import Anatomy, Array, load_anatomy
from MedSeqFTLib.imaging.phantom import T1, T2, Contrast, Grid, draw_grid, draw_person, mix_tissues, scan

Kind = Literal["t1-tissue", "t2-ventricles"]
Progress = Callable[[int, int], None]

#: How scanners store their axes: mostly axial, some coronal and sagittal, with and without flips.
ORIENTATIONS = ("LPS", "LPS", "RAS", "LAS", "PSR", "ASL", "LSA", "RIP")

LICENCE = (
    "Derived from the ICBM 152 nonlinear template (2009a), Copyright (C) 1993-2004 Louis Collins, McConnell Brain "
    "Imaging Centre, Montreal Neurological Institute, McGill University. Permission to use, copy, modify, and "
    "distribute is granted for any purpose and without fee, provided that this copyright notice appears in all copies. "
    "Provided as is, without express or implied warranty."
)
SOURCE = (
    "Semi-synthetic: the average brain of 152 people as shipped with nilearn (Fonov et al. 2011), deformed at random, "
    "inside a drawn skull and scalp, with simulated contrast, bias field and noise. Not patient data, no clinical "
    "evidence."
)


@dataclass(frozen=True)
class Recipe:
    """What a kind of cohort shows and which structures are outlined; `labels` start at value 1."""

    description: str
    contrast: Contrast
    labels: tuple[str, ...]
    shares: Callable[[dict[str, Array]], tuple[Array, ...]]  # of each label, in order


def _tissue_shares(tissues: dict[str, Array]) -> tuple[Array, ...]:
    return tissues["grey"], tissues["white"], tissues["fluid"]


def _ventricle_shares(tissues: dict[str, Array]) -> tuple[Array, ...]:
    return tissues["grey"] + tissues["white"], tissues["ventricle"]


RECIPES: dict[Kind, Recipe] = {
    "t1-tissue": Recipe(
        "Brain tissue on T1-weighted MR", T1, ("grey matter", "white matter", "cerebrospinal fluid"), _tissue_shares
    ),
    "t2-ventricles": Recipe(
        "Brain and lateral ventricles on T2-weighted MR", T2, ("brain", "lateral ventricles"), _ventricle_shares
    ),
}


def make_cohort(folder: Path, kind: Kind, cases: int, seed: int, progress: Progress | None = None) -> Path:
    """Write `cases` scans in Decathlon layout and return the folder.

    Files are imagesTr/NAME.nii.gz (int16), labelsTr/NAME.nii.gz (uint8) and, last of all, dataset.json. The same seed
    gives the same voxels, and case n does not depend on how many cases are asked for.
    `progress` is called with (scans written, scans in all).

    Raises InputError for an unknown kind, a count or seed below zero, no case at all, a folder that is not empty, or a
    missing nilearn; StorageError when a file cannot be written.
    """
    folder = Path(folder)
    _check_request(folder, kind, cases, seed)
    anatomy = load_anatomy()
    names = [f"{kind}_{number:03d}" for number in range(1, cases + 1)]
    try:
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names, start=1):
            _write_case(folder, name, make_case(anatomy, kind, (seed, 1, number)))
            if progress:
                progress(number, len(names))
        (folder / "dataset.json").write_text(_dataset(kind, names, seed), encoding="utf-8", newline="\n")
    except (OSError, RuntimeError) as error:  # SimpleITK reports a failed write as a RuntimeError
        raise StorageError(f"{folder}: the cohort could not be written ({_first_line(error)}).") from error
    return folder


def make_case(anatomy: Anatomy, kind: Kind, seeds: tuple[int, ...]) -> tuple[sitk.Image, sitk.Image]:
    """One scan (int16) and its label map (uint8) on the same grid; `seeds` name the person and the scanner."""
    recipe = RECIPES[kind]
    rng = np.random.default_rng([get_args(Kind).index(kind), *seeds])
    grid = draw_grid(rng)
    tissues = mix_tissues(anatomy, grid, draw_person(anatomy, grid, rng), rng)
    labels = label_map(recipe.shares(tissues))
    voxels = scan(tissues, recipe.contrast, grid, rng)
    origin, orientation = rng.normal(0, 40, 3), str(rng.choice(ORIENTATIONS))
    image, reference = (_place(array, grid, origin, orientation) for array in (voxels, labels))
    return image, reference


def label_map(shares: tuple[Array, ...]) -> NDArray[np.uint8]:
    """Each voxel gets the label (1, 2, ...) with the greatest share, or 0 where more of it belongs to no label."""
    rest = np.clip(1 - sum(shares), 0, 1)
    result: NDArray[np.uint8] = np.argmax(np.stack([rest, *shares]), axis=0).astype(np.uint8)
    return result


def _place(voxels: NDArray[np.generic], grid: Grid, middle: NDArray[np.float64], orientation: str) -> sitk.Image:
    """Put the grid's middle at this place (mm x, y, z of LPS) and reorder its axes as a scanner would store them."""
    image = sitk.GetImageFromArray(voxels)
    direction = grid.turn[::-1, ::-1]
    spacing = np.asarray(grid.spacing[::-1], dtype=np.float64)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    half = (np.array(image.GetSize()) - 1) / 2 * spacing
    image.SetOrigin((middle - direction @ half).tolist())
    return sitk.DICOMOrient(image, orientation)


def _write_case(folder: Path, name: str, case: tuple[sitk.Image, sitk.Image]) -> None:
    for part, image in zip(("imagesTr", "labelsTr"), case, strict=True):
        sitk.WriteImage(image, str(folder / part / f"{name}.nii.gz"), True)


def _dataset(kind: Kind, names: list[str], seed: int) -> str:
    recipe = RECIPES[kind]
    document = {
        "name": kind,
        "description": f"{recipe.description} (semi-synthetic)",
        "semi-synthetic": True,
        "reference": SOURCE,
        "licence": LICENCE,
        "seed": seed,
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {str(value): name for value, name in enumerate(("background", *recipe.labels))},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": [],
    }
    return json.dumps(document, indent=1) + "\n"


def _check_request(folder: Path, kind: str, cases: int, seed: int) -> None:
    if kind not in RECIPES:
        raise InputError(f"Unknown kind of cohort {kind!r}: choose one of {', '.join(RECIPES)}.")
    for what, value in (("cases", cases), ("seed", seed)):
        if value < 0:
            raise InputError(f"{what} is {value}: it must be 0 or more.")
    if cases == 0:
        raise InputError("A cohort needs at least one scan: ask for 1 or more cases.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not an empty folder: name a new one.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
