"""How well copies of a scan are told from other scans, and how long the look takes in a large workspace.

python Testing/Benchmarks/near_duplicates.py DATA [--cases 24] [--stored 10000]

DATA holds folders with imagesTr, such as tasks of the Medical Segmentation Decathlon. Of each, so many scans are
compared with one another, and with copies of themselves that were changed as files are on their way. A false positive
is a pair of files that counts as one scan, a miss is a copy that does not, or that the thumbnails do not bring forward.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imaging_samples import elsewhere, stored_otherwise, with_voxels

from MedSeqFTLib.imaging.likeness import Scan
from MedSeqFTLib.imaging.near_duplicates import ALIKE, SCANS, near_duplicates, same_scan
from MedSeqFTLib.imaging.thumbnails import Known, Thumbnail, keep, known_cases, most_alike
from MedSeqFTLib.imaging.volumes import read_volume
from MedSeqFTLib.workspace.cases import CASE_FILE, IMAGE_FILE
from MedSeqFTLib.workspace.files import write_json
from MedSeqFTLib.workspace.schema import Case, Label, Modality, Percentile, Role, Task
from MedSeqFTLib.workspace.workspace import Workspace

Change = Callable[[sitk.Image], sitk.Image]


def _array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image).astype(np.float32)


def _lowest(image: sitk.Image) -> float:
    return float(sitk.GetArrayViewFromImage(image).min())


def other_units(image: sitk.Image) -> sitk.Image:
    """Another rescale, whole numbers."""
    return with_voxels(image, np.round(_array(image) * 0.37 + 211).astype(np.int16))


def gamma(image: sitk.Image) -> sitk.Image:
    """Another curve of intensities."""
    voxels = _array(image)
    return with_voxels(image, ((voxels - voxels.min()) / np.ptp(voxels)) ** 0.7)


def noise(image: sitk.Image) -> sitk.Image:
    """A tenth of the standard deviation."""
    voxels = _array(image)
    return with_voxels(image, voxels + np.random.default_rng(0).normal(0, 0.1 * voxels.std(), voxels.shape))


def _resampled(image: sitk.Image, factors: tuple[float, float, float]) -> sitk.Image:
    spacing = np.array(image.GetSpacing()) * factors
    size = np.maximum(1, np.round(np.array(image.GetSize()) / factors)).astype(int)
    first = image.TransformContinuousIndexToPhysicalPoint(((np.array(factors) - 1) / 2).tolist())
    turn = image.GetDirection()
    return sitk.Resample(
        image, size.tolist(), sitk.Transform(), sitk.sitkLinear, first, spacing.tolist(), turn, _lowest(image)
    )


def coarser(image: sitk.Image) -> sitk.Image:
    """Voxels of 1.5 times the size."""
    return _resampled(image, (1.5, 1.5, 1.5))


def finer(image: sitk.Image) -> sitk.Image:
    """Voxels of 0.7 to 0.8 times the size."""
    return _resampled(image, (0.7, 0.7, 0.8))


def thick_slices(image: sitk.Image) -> sitk.Image:
    """Slices of 2.2 times the thickness."""
    return _resampled(image, (1, 1, 2.2))


def cropped(image: sitk.Image) -> sitk.Image:
    """Up to a tenth at each end."""
    size = np.array(image.GetSize())
    low, high = (np.round(size * share).astype(int).tolist() for share in ((0.1, 0.02, 0.1), (0.05, 0.1, 0)))
    return sitk.Crop(image, low, high)


def padded(image: sitk.Image) -> sitk.Image:
    """Up to a tenth at each end, with the lowest value."""
    size = np.array(image.GetSize())
    low, high = (np.round(size * share).astype(int).tolist() for share in ((0.1, 0.05, 0.1), (0, 0.1, 0.1)))
    return sitk.ConstantPad(image, low, high, _lowest(image))


def turned_grid(image: sitk.Image) -> sitk.Image:
    """On a grid that lies 6 to 7 degrees oblique; its corners hold the lowest value."""
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.1, 0.05, -0.12)
    axes = np.reshape(turn.GetMatrix(), (3, 3)) @ np.reshape(image.GetDirection(), (3, 3))
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    first = middle - axes @ ((np.array(image.GetSize()) - 1) / 2 * image.GetSpacing())
    grid = (first.tolist(), image.GetSpacing(), axes.ravel().tolist())
    return sitk.Resample(image, image.GetSize(), sitk.Transform(), sitk.sitkLinear, *grid, _lowest(image))


def several(image: sitk.Image) -> sitk.Image:
    """Stored otherwise, cropped, resampled, noisy and in other units."""
    return other_units(noise(_resampled(cropped(stored_otherwise(image)), (1.3, 1.2, 0.9))))


CHANGES: tuple[Change, ...] = (
    other_units,
    gamma,
    noise,
    stored_otherwise,
    elsewhere,
    coarser,
    finer,
    thick_slices,
    cropped,
    padded,
    turned_grid,
    several,
)


def _case(name: str, task: str, role: Role = Role.TRAIN) -> Case:
    return Case(
        id=name,
        task=task,
        role=role,
        source_image=name,
        source_segmentation=name,
        image_sha256="",
        segmentation_sha256="",
        pixel_sha256=f"{task}/{name}",
        size=(1, 1, 1),
        spacing=(1, 1, 1),
        label_voxels={},
    )


def _compare(folder: Path, count: int) -> None:
    paths = sorted(p for p in (folder / "imagesTr").iterdir() if not p.name.startswith("."))[:count]
    images = [read_volume(path) for path in paths]
    scans = [Scan.of(image) for image in images]
    pairs = sorted((same_scan(scans[a], scans[b]), a, b) for a, b in itertools.combinations(range(len(scans)), 2))
    scores = np.array([pair[0] for pair in pairs])
    above = [(paths[a].name, paths[b].name, round(score, 3)) for score, a, b in pairs if score >= ALIKE]
    print(f"{folder.name}: {len(scans)} scans, {len(pairs)} pairs of different files", flush=True)
    print(f"  likeness median {np.median(scores):.3f}, 99 % {np.percentile(scores, 99):.3f}, highest", end=" ")
    print(", ".join(f"{score:.3f}" for score in scores[-3:][::-1]), f"; from {ALIKE} on: {above or 'none'}")
    known = [
        Known(c, Thumbnail.of(c, scan)) for p, scan in zip(paths, scans, strict=True) for c in [_case(p.name, "t")]
    ]
    for change in CHANGES:
        found = list(_copies(change, images, scans, known))
        missed = sum(score < ALIKE or rank >= SCANS for score, rank in found)
        scores = np.array([score for score, _ in found])
        text = f"lowest {scores.min():.3f}, median {np.median(scores):.3f}, missed {missed} of {len(found)}"
        print(f"  {change.__name__:16} {text}, worst rank {max(rank for _, rank in found) + 1}", flush=True)


def _copies(
    change: Change, images: list[sitk.Image], scans: list[Scan], known: list[Known]
) -> Iterator[tuple[float, int]]:
    """Likeness of the original, and its rank by thumbnails."""
    for image, scan, own in zip(images, scans, known, strict=True):
        copy = Scan.of(change(image))
        ranks = [one.case.id for _, one in most_alike(copy, known)]
        yield same_scan(copy, scan), ranks.index(own.case.id) if own.case.id in ranks else len(known)


def _time(image: sitk.Image, count: int) -> None:
    """Compare with many stored cases. Their thumbnails are copies of one with other noise: the worst case for speed."""
    scan, random = Scan.of(image), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.create(Path(folder) / "workspace")
        label = Label(value=1, name="a", color=(1, 0, 0))
        workspace.add_task(Task(name="t", modality=Modality.CT, labels=(label,), intensity=Percentile()))
        first = Thumbnail.of(_case("0", "t"), scan)
        cells = np.frombuffer(first.values, np.int8)
        for number in range(count):
            case = _case(str(number), "t")
            place = workspace.case_folder("t", case.id)
            place.mkdir(parents=True)
            (place / CASE_FILE).write_text(case.model_dump_json(), encoding="utf-8")
            values = np.clip(cells + random.normal(0, 20, cells.shape), -127, 127).astype(np.int8).tobytes()
            keep(
                workspace,
                "t",
                first.model_copy(update={"case": case.id, "pixel_sha256": case.pixel_sha256, "values": values}),
            )
        sitk.WriteImage(image, str(workspace.case_folder("t", "0") / IMAGE_FILE))
        write_json(workspace.case_folder("t", "0") / CASE_FILE, _case("0", "t"))
        size = (workspace.folder / "likeness" / "t.jsonl").stat().st_size / 2**20
        started = time.perf_counter()
        known, _ = known_cases(workspace, 0)
        read = time.perf_counter()
        list(near_duplicates(workspace, _case("new", "t", Role.VALIDATION), scan, known))
        done = time.perf_counter()
        print(f"{count} stored cases: {read - started:.2f} s to read ({size:.0f} MiB), {done - read:.2f} s to compare")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--stored", type=int, default=10_000)
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.data.glob("*/imagesTr"))
    if arguments.cases:
        for folder in folders:
            _compare(folder, arguments.cases)
    if arguments.stored:
        _time(read_volume(sorted((folders[-1] / "imagesTr").iterdir())[0]), arguments.stored)


if __name__ == "__main__":
    main()
