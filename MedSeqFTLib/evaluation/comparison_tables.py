"""The tables of a comparison: the main one, each measure, a[t][i], unseen tasks, costs, and every single case."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from MedSeqFTLib.evaluation.averages import Measure
from MedSeqFTLib.evaluation.bootstrap import Interval
from MedSeqFTLib.evaluation.continual import MEASURES, READINGS, Analysis
from MedSeqFTLib.evaluation.results import FOUNDATION, Cost
from MedSeqFTLib.evaluation.tables import Column, Kind, Table, Value, csv_text
from MedSeqFTLib.workspace.schema import CaseScore, Reading

OWN, ONE = "Own model per task", "One model for all"
GROUPS: dict[Reading, str] = {"per-task": OWN, "single-model": ONE}
MEASURE_NAMES: dict[Measure, str] = {"dice": "Dice", "hd95": "HD95", "nsd": "NSD"}
_LEVEL: dict[Measure, Kind] = {"dice": "share", "hd95": "mm", "nsd": "share"}
_CHANGE: dict[Measure, Kind] = {"dice": "points", "hd95": "mm change", "nsd": "points"}


def all_tables(analysis: Analysis) -> list[Table]:
    """Every table that has rows, in the order in which they are read."""
    orders = range(len(analysis.comparison.orders))
    tables = [
        main_table(analysis),
        *(measure_table(analysis, measure) for measure in MEASURES if analysis.matrices.has(measure)),
        *(matrix_table(analysis, order) for order in orders),
        unseen_table(analysis),
        cost_table(analysis),
    ]
    return [table for table in tables if table.rows]


def main_table(analysis: Analysis) -> Table:
    """Strategies against each other, one a row."""
    comparison = analysis.comparison
    columns = (
        Column("Strategy"),
        Column("Keeps"),
        Column("Runs", "count"),
        Column("Dice", "share", OWN),
        Column("Gain", "points", OWN, interval=True),
        *(Column(task, "share", OWN) for task in comparison.tasks),
        Column("FWT", "points", OWN, interval=True),
        Column("HD95", "mm", OWN),
        Column("NSD", "share", OWN),
        Column("Dice", "share", ONE),
        Column("BWT", "points", ONE, interval=True),
        Column("Time", "ratio"),
    )
    rows = tuple(_main_row(analysis, note.label) for note in comparison.strategies)
    caption = (
        f"Gain over {comparison.baseline} in points of Dice with its 95 % interval. "
        f"Time: of a whole run, as a multiple of {comparison.baseline}'s."
    )
    return Table("main", "Strategies", caption, columns, rows)


def _main_row(analysis: Analysis, label: str) -> tuple[Value, ...]:
    return (
        label,
        analysis.comparison.note(label).keeps,
        len(analysis.matrices.complete(label)),
        _mean(analysis.acc(label, "per-task")),
        _gain(analysis, label, "per-task", "dice"),
        *(analysis.of_task(label, "per-task", task) for task in analysis.comparison.tasks),
        analysis.fwt(label),
        _mean(analysis.acc(label, "per-task", "hd95")),
        _mean(analysis.acc(label, "per-task", "nsd")),
        _mean(analysis.acc(label, "single-model")),
        _bwt(analysis, label, "dice"),
        run_time(analysis, label)[1],
    )


def measure_table(analysis: Analysis, measure: Measure) -> Table:
    """ACC, gain, BWT and FWT in both readings, with intervals; of HD95 also how often it is not defined."""
    level, change, lower = _LEVEL[measure], _CHANGE[measure], measure == "hd95"

    def differences(group: str, *names: str) -> list[Column]:
        return [Column(name, change, group, interval=True, lower_is_better=lower) for name in names]

    columns = [Column("Strategy")]
    for group, names in ((OWN, ("Gain", "FWT")), (ONE, ("Gain", "FWT", "BWT"))):
        columns += [Column("ACC", level, group, interval=True), *differences(group, *names)]
        columns += [Column("Missed", group=group)] if lower else []
    rows = tuple(_measure_row(analysis, note.label, measure) for note in analysis.comparison.strategies)
    return Table(
        f"measures-{measure}", MEASURE_NAMES[measure], _measure_caption(analysis, measure), tuple(columns), rows
    )


def _measure_row(analysis: Analysis, label: str, measure: Measure) -> tuple[Value, ...]:
    row: list[Value] = [label]
    for reading in READINGS:
        row += [analysis.acc(label, reading, measure), _gain(analysis, label, reading, measure)]
        row += [analysis.fwt(label, reading, measure)]
        row += [_bwt(analysis, label, measure)] if reading == "single-model" else []
        row += [_missed(analysis, label, reading)] if measure == "hd95" else []
    return tuple(row)


def _measure_caption(analysis: Analysis, measure: Measure) -> str:
    if measure == "dice":
        return "Overlap with the reference, 0 to 1; differences in points of 0.01."
    if measure == "hd95":
        missed = "Missed: structures of which nothing was predicted, of all with a reference; they have no HD95"
        dash = "and a task in which all are missed leaves no mean"
        return f"95 % Hausdorff distance of the surfaces in mm; lower is better. {missed}, {dash}."
    tolerance = analysis.comparison.tolerance
    return f"Normalised surface Dice at {tolerance:g} mm, 0 to 1." if tolerance else "Normalised surface Dice, 0 to 1."


def matrix_table(analysis: Analysis, order: int) -> Table:
    """a[t][i] of one task order; without rows where no strategy has a single model."""
    tasks = analysis.comparison.orders[order]
    rows: list[tuple[Value, ...]] = []
    for note in analysis.comparison.strategies:
        matrix = analysis.matrix(note.label, order) or []
        rows += [(note.label, f"{t} {task}", *row) for t, (task, row) in enumerate(zip(tasks, matrix, strict=False), 1)]
    columns = (Column("Strategy"), Column("After stage", "task"), *(Column(task, "share") for task in tasks))
    what = "Dice of each task after each stage by one model for all tasks, mean over seeds."
    caption = f"{what} {order_words(analysis, order)}"
    return Table(f"matrix-order-{order}", f"After each stage, order {order}", caption, columns, tuple(rows))


def order_words(analysis: Analysis, order: int) -> str:
    """Order 0: a, then b, then c."""
    tasks = (task.replace("_", " ") for task in analysis.comparison.orders[order])
    return f"Order {order}: {', then '.join(tasks)}."


def unseen_table(analysis: Analysis) -> Table:
    """Fine-tuning on unseen tasks from M_0 and from the last model of each strategy."""
    tasks = analysis.unseen_tasks()
    picks = [(task, [task]) for task in tasks] + ([("mean of the tasks", tasks)] if len(tasks) > 1 else [])
    labels = [note.label for note in analysis.comparison.strategies if analysis.matrices.transfer_runs(note.label)]
    rows = [
        (
            name,
            label,
            _mean(analysis.transfer(FOUNDATION, chosen)),
            _mean(analysis.transfer(label, chosen)),
            analysis.transfer_gain(label, chosen),
        )
        for name, chosen in picks
        for label in labels
    ]
    columns = (
        Column("Unseen task", "task"),
        Column("Strategy"),
        Column("From M0", "share"),
        Column("From Mn", "share"),
        Column("Gain", "points", interval=True),
    )
    caption = (
        "Dice after fine-tuning on a task outside the sequence: from the foundation model, and from the last model."
    )
    return Table("unseen", "Unseen tasks", caption, columns, tuple(rows))


def cost_table(analysis: Analysis) -> Table:
    """Time and memory; without rows where no cost was recorded."""
    baseline = analysis.comparison.baseline
    columns = (
        Column("Strategy"),
        Column("Stages", "count"),
        Column("Median time", "seconds", "Stage"),
        Column(f"Multiple of {baseline}", "ratio", "Stage"),
        Column("Median time", "seconds", "Run"),
        Column(f"Multiple of {baseline}", "ratio", "Run"),
        Column("Peak memory", "mib"),
    )
    rows = [_cost_row(analysis, n.label) for n in analysis.comparison.strategies if costs_of(analysis, n.label)]
    caption = f"Multiples compare with what {baseline} took for the same tasks. A run is one sequence of all tasks."
    return Table("costs", "Time and memory", caption, columns, tuple(rows))


def _cost_row(analysis: Analysis, label: str) -> tuple[Value, ...]:
    costs, normal = costs_of(analysis, label), _baseline_seconds(analysis)
    ratios = [cost.seconds / normal[cost.task] for cost in costs if cost.task in normal]
    peaks = [cost.peak_mib for cost in costs if cost.peak_mib is not None]
    seconds, multiple = run_time(analysis, label)
    stage = (median(cost.seconds for cost in costs), median(ratios) if ratios else None)
    return (label, len(costs), *stage, seconds, multiple, max(peaks, default=None))


def costs_of(analysis: Analysis, label: str) -> list[Cost]:
    """The costs of a strategy's stages."""
    return [cost for cost in analysis.comparison.costs if cost.strategy == label]


def run_time(analysis: Analysis, label: str) -> tuple[float | None, float | None]:
    """Median seconds of a complete run, and as a multiple of the baseline's for the same tasks."""
    normal = _baseline_seconds(analysis)
    totals: list[float] = []
    multiples: list[float] = []
    for run in analysis.matrices.complete(label):
        seconds = [cost.seconds for cost in costs_of(analysis, label) if (cost.order, cost.seed) == run]
        order = analysis.matrices.order(run)
        if not seconds or (analysis.matrices.learns_in_turn(label, run) and len(seconds) < len(order)):
            continue  # some stages were not timed
        totals.append(sum(seconds))
        if all(task in normal for task in order):
            multiples.append(sum(seconds) / sum(normal[task] for task in order))
    return median(totals) if totals else None, median(multiples) if multiples else None


def _baseline_seconds(analysis: Analysis) -> dict[str, float]:
    """Median over the baseline's runs, by task."""
    by_task: dict[str, list[float]] = {}
    for cost in costs_of(analysis, analysis.comparison.baseline):
        by_task.setdefault(cost.task, []).append(cost.seconds)
    return {task: median(seconds) for task, seconds in by_task.items()}


def cases_csv(analysis: Analysis) -> str:
    """One line for every strategy, seed, order, stage, task, reading, case and label, unfinished runs too."""
    head = ["strategy", "seed", "order", "stage", "task", "reading", "case", "label", "dice", "hd95_mm", "nsd"]
    rows = [
        [m.strategy, str(m.seed), str(m.order), str(m.stage), m.task, m.reading, *fields]
        for m in analysis.comparison.measured
        for fields in _case_fields(m.scores)
    ]
    return csv_text([head, *rows])


def unseen_cases_csv(analysis: Analysis) -> str:
    """One line for every strategy (empty: from M_0), seed, order, unseen task, case and label."""
    head = ["strategy", "seed", "order", "task", "case", "label", "dice", "hd95_mm", "nsd"]
    rows = [
        [t.strategy, str(t.seed), str(t.order), t.task, *fields]
        for t in analysis.comparison.transfers
        for fields in _case_fields(t.scores)
    ]
    return csv_text([head, *rows])


def _case_fields(scores: tuple[CaseScore, ...]) -> Iterator[list[str]]:
    for score in scores:
        for label in score.dice:
            values = (score.dice[label], score.hd95.get(label), score.nsd.get(label))
            yield [score.case, label, *("" if value is None else f"{value:.6g}" for value in values)]


def _mean(interval: Interval | None) -> float | None:
    return interval.mean if interval else None


def _gain(analysis: Analysis, label: str, reading: Reading, measure: Measure) -> Value:
    is_baseline = label == analysis.comparison.baseline and reading == "per-task"
    return "baseline" if is_baseline else analysis.gain(label, reading, measure)


def _bwt(analysis: Analysis, label: str, measure: Measure) -> Value:
    return "0 by construction" if analysis.cannot_forget(label) else analysis.bwt(label, measure)


def _missed(analysis: Analysis, label: str, reading: Reading) -> Value:
    found = analysis.misses(label, reading)
    return f"{found.missed} of {found.present}" if found.present else None
