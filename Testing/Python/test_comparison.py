"""Tables, sentences, pictures and the page of a comparison, on invented figures."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from comparison_samples import INVENTED, Invented, cells, invented, scores
from matplotlib import rc_context
from PIL import Image
from test_report import HOSTILE, Page

from MedSeqFTLib.errors import StorageError
from MedSeqFTLib.evaluation.bootstrap import Interval
from MedSeqFTLib.evaluation.chart_style import wrapped
from MedSeqFTLib.evaluation.comparison_charts import all_charts, convergence_chart, gains_chart
from MedSeqFTLib.evaluation.comparison_page import write_comparison
from MedSeqFTLib.evaluation.comparison_tables import (
    all_tables,
    cases_csv,
    cost_table,
    main_table,
    matrix_table,
    measure_table,
    unseen_table,
)
from MedSeqFTLib.evaluation.continual import Analysis
from MedSeqFTLib.evaluation.findings import cautions, definitions, headline
from MedSeqFTLib.evaluation.results import Comparison, Cost, Measured, StrategyNote
from MedSeqFTLib.evaluation.tables import Column, Table, Value

DASH, MINUS = "\u2013", "\u2212"
DRAWS = 200


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def cell(table: Table, label: str, column: str) -> Value:
    (row,) = [row for row in table.rows if row[0] == label]
    return row[[c.title for c in table.columns].index(column)]


def small(*names: str, **changes: object) -> Comparison:
    """Invented figures of some strategies on two tasks and one order."""
    found = invented(seeds=1, cases=3, tasks=("one", "two"), strategies=[s for s in INVENTED if s[0] in names])
    kept = tuple(m for m in found.measured if m.order == 0)
    costs = tuple(c for c in found.costs if c.order == 0)
    found = replace(found, measured=(), costs=(), orders=found.orders[:1])
    return replace(found, **{"measured": kept, "costs": costs, **changes})  # type: ignore[arg-type]


# --- tables ---------------------------------------------------------------------------------------------------------

POINTS = Column("Gain", "points", "Own", interval=True)


@pytest.mark.parametrize(
    ("column", "value", "text", "fields"),
    [
        (Column("Dice", "share"), 0.81249, "0.812", ["0.81249"]),
        (Column("HD95", "mm"), None, DASH, [""]),
        (POINTS, Interval(0.0123, -0.004, 0.03, 4), f"+1.2 ({MINUS}0.4 to +3.0)", ["1.23", "-0.4", "3", "4"]),
        (POINTS, Interval(-0.00001, 0, 0, 1), "0.0 (0.0 to 0.0)", ["-0.001", "0", "0", "1"]),
        (POINTS, "0 by construction", "0 by construction", ["0 by construction", "", "", ""]),
        (Column("Memory", "mib"), 12345.6, "12,346", ["12345.6"]),
        (Column("Task", "task"), "Task01_Heart", "Task01 Heart", ["Task01_Heart"]),
    ],
)
def test_values_are_shown_with_fitting_decimals(column: Column, value: Value, text: str, fields: list[str]) -> None:
    assert column.full(value) == text
    assert column.plain(value) == fields
    assert len(column.heads) == len(fields)


@pytest.mark.parametrize(
    ("low", "high", "lower_is_better", "tone"),
    [
        (0.01, 0.02, False, "better"),
        (0.01, 0.02, True, "worse"),
        (-0.02, -0.01, False, "worse"),
        (-0.02, -0.01, True, "better"),
        (-0.01, 0.01, False, "unclear"),
        (0.0001, 0.02, False, "unclear"),  # shown as 0.0
    ],
)
def test_tone_follows_the_interval_as_shown(low: float, high: float, lower_is_better: bool, tone: str) -> None:
    column = Column("Gain", "points", interval=True, lower_is_better=lower_is_better)
    assert column.tone(Interval((low + high) / 2, low, high, 3)) == tone
    assert Column("Dice", "share").tone(Interval(0.5, low, high, 3)) == "", "a level is neither better nor worse"


def test_markdown_shows_hostile_text_as_text() -> None:
    table = Table("t", "a|b", "<i>c\nd", (Column("Name|x"), POINTS), (("<b>|`*_\\", None),))
    lines = table.markdown().splitlines()
    assert lines[0] == "## a\\|b"
    assert lines[2] == "&lt;i&gt;c d"
    assert lines[4:] == [
        "| Name\\|x | Own: Gain (points) |",
        "| --- | ---: |",
        f"| &lt;b&gt;\\|\\`\\*\\_\\\\ | {DASH} |",
    ]


def test_main_table_has_a_dash_where_a_reading_is_missing() -> None:
    table = main_table(Analysis(small("parallel", "frozen + LoRA", "MedSeqFT"), DRAWS))
    one, own = "One model for all", "Own model per task"
    assert cell(table, "parallel", f"{one}: Dice") is None
    assert cell(table, "parallel", f"{own}: Gain (points)") == "baseline"
    assert cell(table, "frozen + LoRA", f"{one}: BWT (points)") == "0 by construction"
    assert cell(table, "frozen + LoRA", f"{one}: Dice") == cell(table, "frozen + LoRA", f"{own}: Dice")
    forgotten = cell(table, "MedSeqFT", f"{one}: BWT (points)")
    assert isinstance(forgotten, Interval) and forgotten.mean < 0
    row = read_csv(table.csv())[0]
    assert row[f"{one}: Dice"] == "" and row["Keeps"] == "nothing" and row["Runs"] == "1"


def test_tables_with_intervals_agree_with_the_main_table() -> None:
    analysis = Analysis(small("parallel", "replay", "MedSeqFT"), DRAWS)
    main, dice = main_table(analysis), measure_table(analysis, "dice")
    for title in ("Own model per task: Gain (points)", "One model for all: BWT (points)"):
        assert cell(main, "MedSeqFT", title) == cell(dice, "MedSeqFT", title)
    distance = measure_table(analysis, "hd95")
    gain = cell(distance, "MedSeqFT", "Own model per task: Gain (mm)")
    column = distance.columns[2]
    assert isinstance(gain, Interval) and column.lower_is_better
    assert cell(distance, "MedSeqFT", "Own model per task: Missed") == "0 of 15"  # 3 cases, of 2 and 3 labels
    assert "2 mm" in measure_table(analysis, "nsd").caption


def test_matrix_table_has_a_row_for_each_stage() -> None:
    rows = matrix_table(Analysis(small("parallel", "frozen + LoRA", "MedSeqFT"), DRAWS), 0).rows
    assert [row[:2] for row in rows] == [("MedSeqFT", "1 one"), ("MedSeqFT", "2 two")]
    assert rows[0][3] is None and all(isinstance(value, float) for value in (rows[0][2], *rows[1][2:]))


def test_unseen_tasks_have_a_mean_when_there_are_several() -> None:
    table = unseen_table(Analysis(small("parallel", "MedSeqFT"), DRAWS))
    assert [row[0] for row in table.rows] == ["Invented_Heart", "Invented_Spleen", "mean of the tasks"]
    gains = [row[4] for row in table.rows]
    assert all(isinstance(gain, Interval) for gain in gains)
    first, second, mean = (gain.mean for gain in gains if isinstance(gain, Interval))
    assert mean == pytest.approx((first + second) / 2)


def test_costs_are_medians_and_multiples_of_the_baseline() -> None:
    seconds = {"parallel": (10.0, 30.0), "MedSeqFT": (20.0, 40.0)}
    costs = tuple(
        Cost(label, 0, 0, stage, task, values[stage - 1], 100.0 * stage)
        for label, values in seconds.items()
        for stage, task in enumerate(("one", "two"), 1)
    )
    analysis = Analysis(small("parallel", "MedSeqFT", costs=costs), DRAWS)
    assert cost_table(analysis).rows[1] == ("MedSeqFT", 2, 30.0, pytest.approx((2 + 4 / 3) / 2), 60.0, 1.5, 200.0)
    torn = Analysis(replace(analysis.comparison, costs=costs[:3]), DRAWS)
    assert cost_table(torn).rows[1] == ("MedSeqFT", 1, 20.0, 2.0, None, None, 100.0), "a stage was not timed"


def test_case_table_has_every_case_and_label_and_leaves_undefined_figures_empty() -> None:
    found = scores({"a": [0.5, None], "b": [0.0, 0.25]}, hd95={"a": [3.25, None], "b": [None, 1.0]})
    comparison = Comparison(
        "t",
        (("one",),),
        (StrategyNote("parallel", "", "", "none"),),
        (Measured("parallel", 7, 0, 1, "one", "per-task", found),),
    )
    rows = read_csv(cases_csv(Analysis(comparison, DRAWS)))
    assert [tuple(row.values())[6:] for row in rows] == [
        ("case_0", "a", "0.5", "3.25", ""),
        ("case_0", "b", "0", "", ""),
        ("case_1", "a", "", "", ""),
        ("case_1", "b", "0.25", "1", ""),
    ]
    assert tuple(rows[0].values())[:6] == ("parallel", "7", "0", "1", "one", "per-task")


# --- sentences ------------------------------------------------------------------------------------------------------


def two_runs(*gains: tuple[str, float, float]) -> Analysis:
    """Strategies whose Dice is that of the baseline (0.5) and a gain for each of two seeds."""
    measured = [c for seed in (0, 1) for c in cells("parallel", {(1, "one"): 0.5}, seed=seed)]
    for label, *by_seed in gains:
        measured += [c for s, gain in enumerate(by_seed) for c in cells(label, {(1, "one"): 0.5 + gain}, seed=s)]
    labels = ["parallel", *(label for label, *_ in gains)]
    notes = tuple(StrategyNote(label, "Invented.", "nothing", "none") for label in labels)
    return Analysis(Comparison("t", (("one",),), notes, tuple(measured)), draws=500)


def test_headline_names_the_best_strategy_with_its_interval_and_its_lead() -> None:
    (sentence,) = headline(two_runs(("worse", 0.01, 0.03), ("best", 0.04, 0.06)))
    assert sentence.replace("\u00a0", " ") == (
        "With its own model for each task, best has the highest mean Dice: +5.0 points against parallel "
        "(95 % interval +4.0 to +6.0); its lead over the next, worse, is +3.0 (+3.0 to +3.0)."
    )


def test_headline_says_when_a_lead_is_not_clear() -> None:
    (sentence,) = headline(two_runs(("next", 0.01, 0.06), ("best", 0.05, 0.04)))
    assert sentence.endswith(f"its lead over the next, next, is +1.0 ({MINUS}2.0 to +4.0), not a clear one.")


def test_headline_is_honest_when_the_interval_includes_zero_or_all_are_worse() -> None:
    (unclear,) = headline(two_runs(("best", -0.02, 0.04)))
    assert "+1.0 points" in unclear and unclear.endswith("which includes 0: a difference is not shown.")
    (worse,) = headline(two_runs(("poor", -0.3, -0.2), ("less poor", -0.1, -0.2)))
    assert "every strategy is worse than parallel; less poor comes closest" in worse
    (below,) = headline(two_runs(("below", -0.04, 0.02)))
    assert "below comes closest to the baseline from below" in below


def test_headline_without_complete_runs_claims_nothing() -> None:
    assert headline(two_runs()) == ["No strategy can be compared with parallel yet."]


def test_cautions_name_what_is_missing_and_how_few_runs_there_are() -> None:
    found = " ".join(cautions(Analysis(small("parallel", "MedSeqFT", unfinished=1, cautions=("Said so.",)), DRAWS)))
    assert "1 cell is still missing" in found and "Said so." in found and "There is one run" in found
    many = two_runs(("a", 0.1, 0.1))
    assert cautions(many) == [
        "At most 2 runs of a strategy are complete: the intervals are a rough guide, and rather too narrow."
    ]
    uneven = replace(many.comparison, strategies=(*many.comparison.strategies, StrategyNote("b", "", "", "none")))
    uneven = replace(uneven, measured=(*uneven.measured, *cells("b", {(1, "one"): 0.5})))
    assert "different numbers of runs" in cautions(Analysis(uneven, DRAWS))[-1]


def test_definitions_count_empty_references_once() -> None:
    found = scores({"a": [0.5, None]})
    measured = tuple(Measured("parallel", seed, 0, 1, "one", "per-task", found) for seed in (0, 1))
    comparison = Comparison("t", (("one",),), (StrategyNote("parallel", "", "", "none"),), measured)
    assert "1 of 2 structures" in dict(definitions(comparison))["Empty references"]


# --- pictures -------------------------------------------------------------------------------------------------------


def test_gains_picture_says_its_figures_is_sharp_and_depends_on_the_data_alone() -> None:
    comparison = small("parallel", "sequential", "MedSeqFT")
    chart, again = (gains_chart(Analysis(comparison, DRAWS)) for _ in range(2))
    other = gains_chart(Analysis(replace(comparison, measured=comparison.measured[2:]), DRAWS))
    assert chart is not None and chart == again, "the same data give the same bytes"
    assert other is None, "there is nothing to compare with"
    gain = Analysis(comparison, DRAWS).gain("MedSeqFT", "per-task")
    assert f"MedSeqFT {Column('', 'points').full(gain)}" in chart.alt
    picture = Image.open(io.BytesIO(chart.light))
    assert picture.size == (2 * chart.width, 2 * chart.height)
    assert (
        np.asarray(picture.convert("L")).mean()
        > 200
        > 60
        > np.asarray(Image.open(io.BytesIO(chart.dark)).convert("L")).mean()
    )


def test_names_are_not_read_as_formulas_and_odd_curves_are_drawn() -> None:
    chart = convergence_chart({"a $x^{ $b": [(10, None, 0.5), (20, 0.7, 0.4)], "_c": [(10, None, None)], "none": []})
    assert chart is not None and "Dice 0.700 at step 20" in chart.alt
    assert convergence_chart({}) is None
    assert convergence_chart({"a": (), "b": [(10, None, None)]}) is None


def test_settings_of_the_user_change_no_picture() -> None:
    curves = {"a": [(10, 0.5, None), (20, 0.7, None)]}
    plain = convergence_chart(curves)
    with rc_context({"lines.linewidth": 9, "font.size": 30, "axes.facecolor": "red", "axes.grid.axis": "x"}):
        assert convergence_chart(curves) == plain


def test_long_names_take_two_lines() -> None:
    assert (
        wrapped("MedSeqFT rank 4, buffers of the present task only", 20)
        == "MedSeqFT rank 4,\nbuffers of the pres\u2026"
    )
    assert wrapped("short", 20) == "short"


# --- page -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Analysis]:
    """A comparison all of whose names are hostile, written to a folder."""
    names: list[Invented] = [("parallel", HOSTILE, "none", 0.0, 0.0), (HOSTILE, HOSTILE, "measured", 0.02, 0.1)]
    comparison = invented(seeds=1, cases=3, tasks=(HOSTILE, "two"), strategies=names)
    comparison = replace(comparison, title=HOSTILE, cautions=(HOSTILE,), facts=((HOSTILE, HOSTILE),))
    folder = tmp_path_factory.mktemp("comparison") / "new"
    assert write_comparison(comparison, folder, DRAWS) == folder / "report.html"
    return folder, Analysis(comparison, DRAWS)


def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_folder_has_the_page_each_table_every_case_and_the_pictures(hostile: tuple[Path, Analysis]) -> None:
    folder, analysis = hostile
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    tables = {f"{table.name}.csv" for table in all_tables(analysis)}
    assert {
        "main.csv",
        "measures-dice.csv",
        "measures-hd95.csv",
        "measures-nsd.csv",
        "costs.csv",
        "unseen.csv",
    } < tables
    pictures = {f"pictures/{name}-order-{order}.png" for name in ("matrices", "forgetting") for order in (0, 1)}
    pictures |= {"pictures/gains.png", "pictures/convergence.png"}
    assert names == {"report.html", "tables.md", "cases.csv", "unseen-cases.csv"} | tables | pictures
    listed = " ".join(Page(html(folder)).texts)
    assert all(name in listed for name in names - {"report.html"})
    rows = read_csv((folder / "cases.csv").read_text(encoding="utf-8"))
    labels = sum(len(score.dice) for cell in analysis.comparison.measured for score in cell.scores)
    assert len(rows) == labels and HOSTILE in {row["strategy"] for row in rows}


def test_page_is_whole_and_hostile_names_stay_text(hostile: tuple[Path, Analysis]) -> None:
    text = html(hostile[0])
    page = Page(text)
    assert page.named("script") == []
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    shown = " ".join(page.texts)
    assert shown.count(HOSTILE) > 10 and shown.count("<script") == shown.count(HOSTILE)
    assert f"Invented strategy {HOSTILE}, for a test." in shown
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and all(following <= level + 1 for level, following in pairwise(levels))


def test_page_needs_nothing_from_outside_and_is_for_both_themes(hostile: tuple[Path, Analysis]) -> None:
    text = html(hostile[0])
    page = Page(text)
    for _, attributes in page.elements:
        for key in ("src", "href", "srcset"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,"))
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style and style.count("{") == style.count("}")
    sources, images = page.named("source"), page.named("img")
    assert len(images) == len(sources) == 6
    assert all(source["media"] == "screen and (prefers-color-scheme: dark)" for source in sources)
    assert all(
        image["alt"] and image["width"] and image["src"] != s["srcset"]
        for image, s in zip(images, sources, strict=True)
    )
    assert all(header.get("scope") for header in page.named("th"))
    used = set(re.findall(r"var\((--[\w-]+)\)", style))
    assert used - {"--line"} <= set(re.findall(r"(--[\w-]+):", style))


def test_page_begins_with_the_result_and_what_is_missing(hostile: tuple[Path, Analysis]) -> None:
    page = Page(html(hostile[0]))
    for sentence in (*headline(hostile[1]), *cautions(hostile[1])):
        assert sentence.strip() in page.texts
    unfinished = page.texts.index("Unfinished: 3 cells are still missing. The figures use only runs that are complete.")
    assert page.texts.index(headline(hostile[1])[0].strip()) < unfinished < page.texts.index("Strategies")


def test_markdown_has_every_table_and_the_result(hostile: tuple[Path, Analysis]) -> None:
    text = (hostile[0] / "tables.md").read_text(encoding="utf-8")
    assert text.count("\n## ") == len(all_tables(hostile[1]))
    assert "<script" not in text


def test_a_comparison_of_which_nothing_is_finished_is_a_page_too(tmp_path: Path) -> None:
    empty = Comparison("Nothing yet", (("one",),), (StrategyNote("parallel", "x", "y", "none"),), (), unfinished=9)
    page = Page(write_comparison(empty, tmp_path, DRAWS).read_text(encoding="utf-8"))
    assert {
        "No strategy can be compared with parallel yet.",
        "Unfinished: 9 cells are still missing. The figures use only runs that are complete.",
    } <= set(page.texts)
    assert page.named("img") == [] and all_charts(Analysis(empty)) == []


def test_nothing_of_an_earlier_comparison_is_left_beside_the_new_one(tmp_path: Path) -> None:
    both_orders = invented(seeds=1, cases=2)
    write_comparison(both_orders, tmp_path, DRAWS)
    (tmp_path / "notes.csv").write_text("mine")
    before = {path.name for path in tmp_path.rglob("*.*")}
    first = tuple(m for m in both_orders.measured if not m.order)
    one_order = replace(both_orders, orders=both_orders.orders[:1], measured=first, transfers=(), curves={}, costs=())
    write_comparison(one_order, tmp_path, DRAWS)
    after = {path.name for path in tmp_path.rglob("*.*")}
    assert before - after == {
        *("unseen.csv", "unseen-cases.csv", "matrix-order-1.csv", "convergence.png"),
        *("matrices-order-1.png", "forgetting-order-1.png"),
    }
    assert after < before and (tmp_path / "notes.csv").read_text() == "mine"


def test_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    empty = Comparison("t", (("one",),), (StrategyNote("parallel", "x", "y", "none"),), ())
    with pytest.raises(StorageError) as caught:
        write_comparison(empty, tmp_path / "file" / "folder")
    assert "\n" not in str(caught.value)


def test_comparing_needs_no_torch() -> None:
    heavy = {"torch", "monai", "SimpleITK", "nilearn"}
    code = f"import sys, MedSeqFTLib.evaluation.comparison_page; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
