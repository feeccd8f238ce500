"""Invented comparisons of strategies. Their figures come from a random generator and mean nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from MedSeqFTLib.evaluation.results import (
    Comparison,
    Cost,
    CurvePoint,
    Measured,
    Reading,
    SingleModel,
    StrategyNote,
    Transfer,
)
from MedSeqFTLib.workspace.schema import CaseScore

Rows = Mapping[str, Sequence[float | None]]
#: Label, what it must keep, its single-model reading, gain per task and loss a stage in Dice.
Invented = tuple[str, str, SingleModel, float, float]
INVENTED: tuple[Invented, ...] = (
    ("parallel", "nothing", "none", 0.0, 0.0),
    ("multi-task", "all data of all tasks", "same as per task", 0.012, 0.0),
    ("sequential", "nothing", "measured", -0.05, 0.25),
    ("LwF", "nothing", "measured", -0.02, 0.12),
    ("EWC", "Fisher information, a number for each weight", "measured", -0.03, 0.15),
    ("replay", "10 % of the cases of each task", "measured", 0.003, 0.05),
    ("frozen + LoRA", "nothing", "same as per task", -0.01, 0.0),
    ("MedSeqFT", "at most 10 % of the cases of each task", "measured", 0.02, 0.03),
    ("MedSeqFT rank 4, B_t only", "at most 10 % of the cases of the present task", "measured", 0.015, 0.07),
)
TASKS = ("Invented_Hippocampus", "Invented_HeadNeck", "Invented_Prostate", "Invented_BrainRegions")


def scores(dice: Rows, hd95: Rows | None = None, nsd: Rows | None = None) -> tuple[CaseScore, ...]:
    """Cases from label -> value of each case."""

    def of_case(rows: Rows | None, case: int) -> dict[str, float | None]:
        return {label: row[case] for label, row in (rows or {}).items()}

    return tuple(
        CaseScore(case=f"case_{n}", dice=of_case(dice, n), hd95=of_case(hd95, n), nsd=of_case(nsd, n))
        for n in range(len(next(iter(dice.values()))))
    )


def flat(value: float, cases: int = 2) -> tuple[CaseScore, ...]:
    """Cases of one label that all have the same Dice."""
    return scores({"a": [value] * cases})


def cells(
    strategy: str, matrix: Mapping[tuple[int, str], float], reading: Reading = "per-task", seed: int = 0, order: int = 0
) -> list[Measured]:
    """Measured cells from (stage, task) -> Dice."""
    return [Measured(strategy, seed, order, t, task, reading, flat(value)) for (t, task), value in matrix.items()]


def invented(
    seeds: int = 2, cases: int = 6, tasks: Sequence[str] = TASKS, strategies: Sequence[Invented] = INVENTED
) -> Comparison:
    """Strategies over two orders of the tasks. Every figure is drawn at random."""
    rng = np.random.default_rng(0)
    orders = (tuple(tasks), tuple(tasks[::-1]))
    hard = {t: {f"part_{n}": rng.normal(0, 0.05, cases) for n in range(2 + i)} for i, t in enumerate(tasks)}
    runs = [(s, o, seed) for s in strategies for o in range(2) for seed in range(seeds) if s[0] != "parallel" or o == 0]
    measured = [cell for strategy, o, seed in runs for cell in _run(rng, strategy, o, seed, orders[o], hard)]
    costs = [
        Cost(s[0], seed, o, stage, task, float(rng.uniform(90, 110)) * (1.0 if s[4] == 0 else 1.6), 1000.0)
        for s, o, seed in runs
        for stage, task in enumerate(orders[o], 1)
    ]
    transfers = [
        Transfer(label, seed, 0, task, _draw(rng, 0.6 + worth, {"whole": np.zeros(cases)}))
        for label, worth in (("", 0.0), (strategies[-1][0], 0.04))
        for seed in range(seeds)
        for task in ("Invented_Spleen", "Invented_Heart")
    ]
    return Comparison(
        title="Invented figures, to look at the page",
        orders=orders,
        strategies=tuple(StrategyNote(n, f"Invented strategy {n}, for a test.", k, s) for n, k, s, _, _ in strategies),
        measured=tuple(measured),
        transfers=tuple(transfers),
        costs=tuple(costs),
        curves={task: _curve(0.85 - 0.5 * place / len(tasks)) for place, task in enumerate(tasks)},
        tolerance=2.0,
        facts=(("Command", "none: invented"), ("Hardware", "none"), ("Date", "never")),
        cautions=("Every figure here is invented.",),
        unfinished=3,
    )


def _run(
    rng: np.random.Generator,
    strategy: Invented,
    order: int,
    seed: int,
    tasks: Sequence[str],
    hard: Mapping[str, Mapping[str, np.ndarray]],
) -> list[Measured]:
    label, _, single_model, gain, loss = strategy
    found = []
    for i, task in enumerate(tasks, 1):
        own = 0.85 - 0.5 * list(hard).index(task) / len(tasks) + gain * (i > 1) + rng.normal(0, 0.008)
        stage = len(tasks) if label == "multi-task" else i
        found.append(Measured(label, seed, order, stage, task, "per-task", _draw(rng, own, hard[task])))
        for t in range(i, len(tasks) + 1) if single_model == "measured" else ():
            faded = own - 0.01 - loss * (t - i) + rng.normal(0, 0.004)
            found.append(Measured(label, seed, order, t, task, "single-model", _draw(rng, faded, hard[task])))
    return found


def _draw(rng: np.random.Generator, mean: float, hard: Mapping[str, np.ndarray]) -> tuple[CaseScore, ...]:
    dice = {name: np.clip(mean + shift + rng.normal(0, 0.01, len(shift)), 0, 0.99) for name, shift in hard.items()}
    rows: dict[str, list[float | None]] = {name: [round(float(v), 4) for v in row] for name, row in dice.items()}
    distance: dict[str, list[float | None]] = {
        name: [round(20 * (1 - v), 2) if v and v > 0.3 else None for v in row] for name, row in rows.items()
    }
    return scores(rows, hd95=distance, nsd=rows)


def _curve(end: float) -> tuple[CurvePoint, ...]:
    return tuple(
        (step, round(end * (1 - 0.8 * 0.98**step), 4) if step % 50 == 0 else None, round(1.5 * 0.99**step + 0.2, 4))
        for step in range(10, 701, 10)
    )
