"""Damaged files for every reader (Testing/Fuzzing): a few hundred here, 20,000 each in the slow test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from workspace_samples import ROOT

sys.path.append(str(ROOT / "Testing" / "Fuzzing"))
import trying

HEAVY = trying._MODULES["tensors"]


@pytest.mark.parametrize("name", trying.NAMES)
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    cases = range(50 if name in HEAVY else 200)
    results = list(trying.try_cases(trying.reader_named(name), 1, cases, tmp_path, limited=False))
    assert [result for result in results if result[1] == trying.FAILED] == []
    assert len(results) == len(cases)
    assert {outcome for _, outcome, _ in results} & {trying.REFUSED, trying.READ}


def test_a_reader_that_fails_is_found(tmp_path: Path) -> None:
    """A fault of every kind that is looked for."""

    def faulty(folder: Path, sample: trying.Sample) -> None:
        number = len(list((folder.parent).glob("failed-*")))
        if number == 0:
            raise KeyError("a bug")
        if number == 1:
            (folder / "scan.nrrd").write_bytes(b"changed")
        raise trying.MedSeqFTError("fine") if number == 1 else MemoryError

    sample = trying.Sample({"scan.nrrd": b"x"}, ("scan.nrrd",), lambda random, data: data, readable=False)
    reader = trying.Reader("faulty", lambda folder: [sample], faulty)
    words = [words for _, outcome, words in trying.try_cases(reader, 0, range(3), tmp_path, limited=False)]
    assert "KeyError: 'a bug'" in words[0]
    assert words[1] == "the files were changed"
    assert "MemoryError" in words[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", trying.NAMES)
def test_twenty_thousand_damaged_files_for_every_reader(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "Testing" / "Fuzzing"), "--keep", str(tmp_path), "--only", name]
    subprocess.run(command, check=True)
