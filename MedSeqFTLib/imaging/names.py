"""File names of images."""

from __future__ import annotations

import re
from pathlib import Path

_SUFFIX = re.compile(r"(\.seg)?\.(nrrd|nhdr|nii|mha|mhd)$|\.nii\.gz$", re.IGNORECASE)


def stem_of(path: Path) -> str:
    """The name of an image file without .nii.gz, .seg.nrrd and the like, or the whole name of a folder."""
    return _SUFFIX.sub("", path.name)
