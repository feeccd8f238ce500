"""What the gate and the audit log add to an adaptation: deciding, checking the files, and every line of the log.

A real adaptation with the preset quick (the shortest one: the largest share) to the second of two tasks, whose
first version is in use. The scans are tiny, which makes the rest of the adaptation short, too. Measuring held-out cases
is told apart: it is what the gate looks at, and would be shown without a gate as well.

python Testing/Benchmarks/gate_overhead.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))

from learning_samples import Notes, add_balls, ball_task, ball_workspace

from MedSeqFTLib.jobs import control
from MedSeqFTLib.learning import adaptation
from MedSeqFTLib.learning.settings import adapt_settings
from MedSeqFTLib.workspace import workspace as workspace_module
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace

SHORT = {"stage_a_steps": "5", "stage_b_steps": "2", "selection_passes": "4"}
PLAIN = {"precision": "float32"}
spent: Counter[str] = Counter()  # seconds
running: list[str] = []


def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; the seconds that it takes are counted, unless something counted is running already."""

    def wrapper(*arguments: Any, **named: Any) -> Any:
        running.append(name)
        start = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            running.pop()
            if not running:
                spent[name] += time.perf_counter() - start

    return wrapper


def adapt(workspace: Workspace, task: str, changes: dict[str, str]) -> float:
    """Seconds of an adaptation in this process."""
    settings = adapt_settings("quick", {**PLAIN, **changes}).model_dump(mode="json")
    job = control.new_job(workspace, "adapt", task, settings)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        adaptation.run_adaptation(workspace, job, Notes(Path(folder)))
        return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = ball_workspace(folder, train=2, validation=5)
        task = workspace.add_task(ball_task("more-balls"))
        add_balls(workspace, folder, task, range(10, 12), Role.TRAIN)
        add_balls(workspace, folder, task, range(110, 115), Role.VALIDATION)
        adapt(workspace, "balls", SHORT)
        adapt(workspace, "more-balls", SHORT)
        add_balls(workspace, folder, task, range(12, 16), Role.TRAIN)

        adaptation.promote_if_better = timed("deciding and promoting", adaptation.promote_if_better)
        adaptation.measure_all = timed("measuring held-out cases", adaptation.measure_all)
        workspace_module.note = timed("the line of the new version in the audit log", workspace_module.note)
        whole = adapt(workspace, "more-balls", {})
        print(f"the adaptation: {whole:.1f} s")
        for what, seconds in spent.items():
            print(f"{what}: {seconds:.3f} s, {100 * seconds / whole:.2f} %")
        added = sum(seconds for what, seconds in spent.items() if what != "measuring held-out cases")
        print(f"gate and audit add {100 * added / (whole - added):.2f} % (wanted: under 2 %)")
        print(f"promoted: {workspace.pointers().history[-1].after == workspace.versions()[-1].id}")


if __name__ == "__main__":
    main()
