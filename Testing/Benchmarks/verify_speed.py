"""Speed of `workspace verify`, of exporting and of importing, against sha256sum of the same files.

A workspace of random bytes is made: large weights, cases of two files. All files are in the system's memory when they
are read, so that hashing is measured and not the disk.

python Testing/Benchmarks/verify_speed.py [--cases 200] [--case-mib 4] [--versions 4] [--version-mib 128] [--rounds 3]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import common
from workspace_samples import a_task, a_version, add_case

from MedSeqFTLib.workspace.archive import export_workspace
from MedSeqFTLib.workspace.audit_check import verify
from MedSeqFTLib.workspace.unpacking import import_workspace
from MedSeqFTLib.workspace.verification import recorded_files, verify_recorded
from MedSeqFTLib.workspace.workspace import Workspace


def make(folder: Path, options: argparse.Namespace) -> Workspace:
    workspace = Workspace.create(folder / "workspace")
    workspace.add_task(a_task())
    for number in range(options.cases):
        add_case(workspace, f"case{number}", os.urandom(int(options.case_mib * 2**20) // 2))
    for number in range(options.versions):
        weights = folder / "weights"
        weights.mkdir()
        (weights / "backbone.safetensors").write_bytes(os.urandom(int(options.version_mib * 2**20)))
        workspace.publish(a_version(f"M{number}", weights), weights)
        shutil.rmtree(weights)
    return workspace


def peers(paths: list[str]) -> dict[str, Callable[[], object]]:
    """coreutils' sha256sum, and hashlib in one thread, both of the same files."""

    def plain() -> None:
        for path in paths:
            digest = hashlib.sha256()
            with open(path, "rb", buffering=0) as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)

    found: dict[str, Callable[[], object]] = {"hashlib, one thread": plain}
    if tool := shutil.which("sha256sum"):
        command = [tool, "--", *paths]
        found["sha256sum"] = lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--case-mib", type=float, default=4)
    parser.add_argument("--versions", type=int, default=4)
    parser.add_argument("--version-mib", type=float, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = make(folder, options)
        paths = [str(file.path) for file in recorded_files(workspace)[0]]
        size = sum(os.path.getsize(path) for path in paths) / 2**20

        def exported() -> None:
            export_workspace(workspace, folder / "backup.zip", overwrite=True)

        def imported() -> None:
            shutil.rmtree(folder / "moved", ignore_errors=True)
            import_workspace(folder / "backup.zip", folder / "moved")

        work: dict[str, Callable[[], object]] = {
            **peers(paths),
            "files of `workspace verify`": lambda: verify_recorded(workspace),
            "whole `workspace verify`": lambda: verify(workspace),
            "export": exported,
            "import": imported,
        }
        seconds = common.in_turns(work, options.rounds)
    print(f"{common.machine()}; {len(paths)} files, {size:.0f} MiB")
    for what, taken in seconds.items():
        print(f"{what:30} {taken:7.2f} s {size / taken:8.0f} MiB/s")
    base = seconds.get("sha256sum", seconds["hashlib, one thread"])  # Windows has none
    print(f"whole `workspace verify`, speed against sha256sum: {base / seconds['whole `workspace verify`']:.2f}")


if __name__ == "__main__":
    main()
