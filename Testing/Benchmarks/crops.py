"""A random 96^3 crop with labels from the cache of prepared cases, and its size on disk against .nii.gz.

python Testing/Benchmarks/crops.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import common
import numpy as np
import SimpleITK as sitk

from MedSeqFTLib.imaging.cache import Prepared, PreparedCase, write_prepared
from MedSeqFTLib.imaging.preprocessing import to_levels
from MedSeqFTLib.imaging.volumes import read_volume, write_volume

SHAPE, PATCH = (128, 256, 256), (96, 96, 96)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = common.smooth_scan(SHAPE)
        labels = (scan > 900).astype(np.uint8) + (scan > 1500)
        write_volume(sitk.GetImageFromArray(scan), folder / "scan.nii.gz")
        write_volume(sitk.GetImageFromArray(labels), folder / "labels.nii.gz")
        (folder / "case").mkdir()
        levels = to_levels(scan.astype(np.float32), -1000, 1000)
        write_prepared(folder / "case", Prepared(levels, labels, np.ones(3, bool)))
        case, random = PreparedCase(folder / "case"), np.random.default_rng(0)

        def crop() -> None:
            start = tuple(int(random.integers(s - p + 1)) for s, p in zip(SHAPE, PATCH, strict=True))
            case.image_crop(start, PATCH)
            case.label_crop(start, PATCH)

        def image_only() -> None:
            start = tuple(int(random.integers(s - p + 1)) for s, p in zip(SHAPE, PATCH, strict=True))
            case.image_crop(start, PATCH)

        def whole() -> None:
            sitk.GetArrayFromImage(read_volume(folder / "scan.nii.gz"))

        seconds = {
            n: np.median([common.in_turns({n: f}, 1)[n] for _ in range(k)])
            for n, f, k in (("image", image_only, 40), ("both", crop, 40), ("whole", whole, 3))
        }
        ours = sum(path.stat().st_size for path in (folder / "case").iterdir())
        theirs = sum((folder / n).stat().st_size for n in ("scan.nii.gz", "labels.nii.gz"))
    print(f"{common.machine()}; volume {SHAPE}, crop {PATCH}, median")
    print(f"image crop           {1000 * seconds['image']:7.1f} ms (wanted: at most 5)")
    print(f"image and label crop {1000 * seconds['both']:7.1f} ms")
    print(f"whole .nii.gz        {1000 * seconds['whole']:7.1f} ms, ratio {seconds['image'] / seconds['whole']:.3f}")
    print(
        f"on disk {ours / 2**20:.1f} MiB, .nii.gz {theirs / 2**20:.1f} MiB, "
        f"ratio {ours / theirs:.2f} (wanted: at most 1.0)"
    )


if __name__ == "__main__":
    main()
