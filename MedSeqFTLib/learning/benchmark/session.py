"""One benchmark in one folder: what it needs, what it will do, doing it, and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.comparison_page import write_comparison
from MedSeqFTLib.learning.benchmark.cells import Cell, Planner, Run, in_order
from MedSeqFTLib.learning.benchmark.config import BASELINE, BenchmarkConfig
from MedSeqFTLib.learning.benchmark.estimate import Estimate, estimate
from MedSeqFTLib.learning.benchmark.material import Material, Missing, draw, find_data, has_foundation
from MedSeqFTLib.learning.benchmark.outcome import Outcome
from MedSeqFTLib.learning.benchmark.runner import Runner
from MedSeqFTLib.learning.progress import Teller
from MedSeqFTLib.learning.publishing import software
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.workspace.files import write_bytes_atomically
from MedSeqFTLib.workspace.schema import now

_ON_TUNING_CASES = "Measured on cases split from the training side, for choosing settings: these are no results."


@dataclass(frozen=True)
class Session:
    """A description, the folder of its data sets, and the folder of its results."""

    config: BenchmarkConfig
    source: Path  # the file that describes it
    data: Path
    folder: Path

    @cached_property
    def missing(self) -> list[Missing]:
        """Data sets that cannot be used."""
        return find_data(self.config, self.data, self.folder)[1]

    def refuse_missing(self) -> None:
        """Before hours are spent: is there everything that the benchmark needs?

        Raises:
            InputError: names every data set and file that cannot be used, and where to get it; or there is no baseline.
        """
        if self.config.baseline is None:
            raise InputError(
                f"The benchmark {self.source.name} has no strategy of the kind '{BASELINE}' with the budget 1, which "
                "the others are compared with; add one."
            )
        lines = [
            f"{m.task.name}: {m.reason}{f' Get it from: {m.task.source}.' * bool(m.task.source)}" for m in self.missing
        ]
        if not has_foundation(self.config, self.data):
            lines.append(
                f"foundation model: {self.data / self.config.foundation} is missing (see 'models foundation')."
            )
        if lines:
            raise InputError("\n".join([f"{len(lines)} things that the benchmark needs are missing.", *lines]))

    def plan(self, data: str = "") -> tuple[list[Run], list[Cell]]:
        """Every run, and every cell once. `data` names the cases and the foundation model, if results are looked up."""
        planner = Planner(self.config, data)
        runs = planner.runs()
        return runs, in_order(runs, planner.baselines(runs))

    def estimate(self, compute: Compute) -> Estimate:
        """Measured on this machine. Raises InputError if the foundation model cannot be used."""
        return estimate(self.config, self.data, compute, self.plan()[1][0])

    def material(self, teller: Teller) -> Material:
        """Cases and foundation model, imported where they are not yet.

        Raises:
            InputError: a data set is missing or cannot be used.
            StorageError: the disk is full.
        """
        self.refuse_missing()
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "material.lock"):  # another process may begin at the same time
            draw(self.config, self.folder, teller)
            found, _ = find_data(self.config, self.data, self.folder)
            material = Material.of(self.config, self.data, found, self.folder, teller)
            write_bytes_atomically(self.folder / "config.toml", self.source.read_bytes())
        return material

    def run(self, material: Material, compute: Compute, teller: Teller, processes: int = 1) -> None:
        """Compute every cell that is not finished, as one of `processes`. Raises as Runner.run."""
        _, cells = self.plan(material.name)
        Runner(material, compute, self.folder, teller, processes).run(cells)

    def write(self, material: Material) -> Path:
        """Write tables, pictures and the page of what is finished, and return the page. Raises StorageError."""
        outcome = Outcome(self.config, Planner(self.config, material.name), self.folder)
        cautions = [_ON_TUNING_CASES] if self.config.measure == "tuning" else []
        comparison = outcome.comparison(self._facts(), cautions)
        return write_comparison(comparison, self.folder)

    def _facts(self) -> list[tuple[str, str]]:
        return [
            ("Description", self.source.name),
            ("Date", now().date().isoformat()),
            *software().items(),
        ]
