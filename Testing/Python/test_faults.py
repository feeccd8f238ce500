"""A reduced form of `python Testing/Faults`: a few trials of each kind of fault. The whole takes minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from learning_samples import Notes

from MedSeqFTLib.jobs.job import Job
from MedSeqFTLib.learning.errand_settings import RESULT_FILE
from MedSeqFTLib.learning.errands import run_acceptance, run_segmentation

sys.path.append(str(Path(__file__).resolve().parents[1]))

from Faults import seccomp
from Faults.bench import Bench
from Faults.children import Server
from Faults.kinds import KINDS
from Faults.table import Row, markdown, seeds, tried

pytestmark = pytest.mark.skipif(bool(seccomp.unavailable()), reason=seccomp.unavailable() or "-")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faults")
    with Server(folder / "children.log") as server:
        yield Bench(folder, server)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_few_trials_of_each_kind_are_survived(bench: Bench, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "acts", ("promote",), raising=False)
    row = tried(kind(bench), kind.few)
    assert not row.lost
    assert row.tried or row.skipped


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_many_trials_of_each_kind_are_survived(bench: Bench, kind: type) -> None:
    assert tried(kind(bench), 60).lost == []


def test_the_table_counts_what_was_lost() -> None:
    table = markdown([Row("kill", "", survived=3, lost=["kill 4: gone"]), Row("clock", "", skipped="no clock")])
    assert "| kill | 4 | 3 | 1 | 0 |" in table
    assert "| clock | not tried: no clock |" in table
    assert "| **all** | **4** | **3** | **1** | 0 |" in table


def test_fewer_trials_are_spread_over_all() -> None:
    assert list(seeds(10, None)) == list(range(10)) == list(seeds(10, 20))
    assert list(seeds(10, 3)) == [0, 3, 6]


# what the fault tests found, and was mended


@pytest.mark.parametrize("run", [run_acceptance, run_segmentation])
def test_an_errand_killed_before_its_last_word_is_finished_by_resuming_it(tmp_path: Path, run: object) -> None:
    """Its result is stored and its input is gone: reading that again would make a failure of what succeeded."""
    (tmp_path / RESULT_FILE).write_text("{}", encoding="utf-8")
    run(None, Job(id="errand", kind="accept", task="balls"), Notes(tmp_path))  # type: ignore[operator]
