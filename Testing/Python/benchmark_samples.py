"""Small benchmarks on scans of balls, and what lies in their folders."""

from __future__ import annotations

import json
from pathlib import Path

import SimpleITK as sitk
from learning_samples import ball_scan

from MedSeqFTLib.learning.benchmark.records import CELLS, RECORD, CellRecord
from MedSeqFTLib.workspace.files import read_json

TASKS = """
title = "Balls: <b>no</b> evidence"
orders = [["one", "two"]]
leave_one_out = true

[settings]
patch_side = 16
precision = "float32"
overlap = 0
selection_passes = 5
checkpoint_seconds = 0

[[tasks]]
name = "one"
folder = "One"
held_out = 1
train = 2
steps = 3

[[tasks]]
name = "two"
folder = "Two"
held_out = 1
steps = 3
"""


def write_balls(folder: Path) -> None:
    """The data sets of TASKS."""
    write_data_set(folder / "One", range(4))
    write_data_set(folder / "Two", range(10, 13))


def write_data_set(folder: Path, seeds: range) -> None:
    """Balls in the Decathlon's layout."""
    training = []
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for seed in seeds:
        for part, image in zip(("imagesTr", "labelsTr"), ball_scan(seed), strict=True):
            sitk.WriteImage(image, str(folder / part / f"case{seed}.nii.gz"))
        training.append({"image": f"imagesTr/case{seed}.nii.gz", "label": f"labelsTr/case{seed}.nii.gz"})
    labels = {"0": "background", "1": "ball", "4": "shell"}
    document = {"name": folder.name, "modality": {"0": "MRI"}, "labels": labels, "training": training}
    (folder / "dataset.json").write_text(json.dumps(document), encoding="utf-8")


def records(folder: Path) -> dict[str, CellRecord]:
    paths = (folder / CELLS).glob(f"*/{RECORD}")
    return {record.key: record for record in (read_json(path, CellRecord) for path in paths)}


def starts(folder: Path) -> dict[str, int]:
    """How often each cell was begun."""
    paths = (folder / CELLS).glob("*/times.txt")
    return {path.parent.name: path.read_text("ascii").splitlines().count("start") for path in paths}
