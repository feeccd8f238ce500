"""Workspaces in which proposals were corrected: real records, files of plain bytes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

import workspace_samples as samples

from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.schema import Correction, Segmentation
from MedSeqFTLib.workspace.segmentations import store_segmentation
from MedSeqFTLib.workspace.workspace import Workspace

BEGIN = datetime(2026, 1, 5, 9, tzinfo=timezone.utc)
#: Mean Dice, confidence and seconds of the cases of each version.
SHRINKING = {"M1": (0.80, 0.84, 900.0, 6), "M2": (0.88, 0.90, 500.0, 7), "M3": (0.92, 0.93, 300.0, 8)}


def propose(workspace: Workspace, name: str, version: str, confidence: float, hour: float) -> Segmentation:
    """What a version proposed for a volume."""
    with workspace.staging() as folder:
        file = folder / "p.seg.nrrd"
        file.write_bytes(name.encode())
        record = Segmentation(
            name=name,
            task="brain",
            version=version,
            reading="per-task",
            source_image=f"{name}.nrrd",
            pixel_sha256=hashlib.sha256(name.encode()).hexdigest(),
            segmentation_sha256=sha256_of(file),
            size=(4, 5, 6),
            spacing=(1, 1, 2),
            label_voxels={},
            confidence=confidence,
            created=BEGIN + timedelta(hours=hour),
        )
        return store_segmentation(workspace, record, file)


def correct(
    workspace: Workspace, name: str, version: str, dice: float, confidence: float, seconds: float, hour: float
) -> None:
    """A proposal, and its correction."""
    propose(workspace, name, version, confidence, hour)
    found = Correction(
        confidence=confidence,
        dice={"grey matter": dice - 0.02, "white matter": dice + 0.02},
        surface={"grey matter": 8 * (1 - dice), "white matter": 6 * (1 - dice)},
        changed=1.4 * (1 - dice),
    )
    made = {"proposed_by": version, "proposal_dice": dice, "correction": found, "seconds_spent": seconds}
    samples.add_case(workspace, name, name.encode(), accepted=BEGIN + timedelta(hours=hour + 0.5), **made)


def tell(workspace: Workspace, story: Mapping[str, tuple[float, float, float, int]], seed: int = 0) -> None:
    """Cases drawn around the means of each version; what the model was sure of needed less correction."""
    draw, hour = random.Random(seed), 0.0
    for version, (dice, confidence, seconds, count) in story.items():
        for number in range(count):
            ease = draw.gauss(0, 1)
            figures = (dice + 0.02 * ease + draw.gauss(0, 0.01), confidence + 0.015 * ease + draw.gauss(0, 0.01))
            name = f"case-{version}-{number}"
            correct(workspace, name, version, *figures, seconds * draw.uniform(0.6, 1.5), hour)
            hour += 1
