"""report.html: whole, self-contained, escaped and readable by machines; pictures the right way round."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from MedSeqFTLib.errors import GeometryError, InputError, StorageError
from MedSeqFTLib.evaluation import charts
from MedSeqFTLib.evaluation.pictures import CONVENTION, case_picture, outline_panel
from MedSeqFTLib.evaluation.report import (
    DiceRow,
    Picture,
    Report,
    SelectionRow,
    StageSection,
    VersionRow,
    dice_tables,
    render_report,
    write_report,
)
from MedSeqFTLib.workspace.schema import Label

HOSTILE = "<script>alert('x')</script>\" onload=\"x & {{ 7 * 7 }} {% raw %}"
VOID = {"meta", "img", "link", "br", "hr", "input", "source"}
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def dot_png() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (2, 2), "white").save(target, "png")
    return target.getvalue()


def full_report(name: str = "liver") -> Report:
    rows = [
        DiceRow("per-task", name, "left " + name, 0.70, 0.80, 4),
        DiceRow("per-task", name, "right " + name, 0.60, 0.70, 4),
        DiceRow("per-task", "older", "kidney", 0.90, 0.90, 3),
        DiceRow("single-model", "older", "kidney", 0.90, 0.85, 3),
        DiceRow("single-model", name, "left " + name, None, 0.75, 4),
    ]
    section = StageSection(
        task=name,
        version="M2",
        text=f"First {name}.\n\nSecond.",
        outcome="waiting",
        verdict=f"Because of {name}.",
        pictures=[Picture(dot_png(), f"Caption {name}", f"Alt {name}")],
        dice=rows,
        losses={f"Stage A {name}": [(step, {f"dice {name}": 1 / (step + 1)}) for step in range(9)]},
        buffer=[
            SelectionRow(f"{name}_1", 0.1, (0.09, 0.11), 64, True, "decided in"),
            SelectionRow(f"{name}_2", 0.2, (0.1875, 0.2125), 40, False, "tie zone, left by mean", tie=True),
        ],
        buffer_text=f"Chosen by {name}.",
    )
    return Report(
        title=f"Report {name}",
        subtitle=f"Sub {name}",
        facts=[(f"Fact {name}", f"Text {name}")],
        notes=[f"Note {name}", "second"],
        sections=[section],
        lineage=[VersionRow("M0", None, None, "2026-01-01"), VersionRow("M2", "M0", name, "now", 0.9, [name], name)],
        files=[(f"What {name}", f"/path/{name}")],
    )


class Page(HTMLParser):
    """Collects elements and fails when one is not closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("name", ["liver", HOSTILE])
def test_page_is_whole_and_has_one_of_everything(name: str) -> None:
    page = Page(render_report(full_report(name)))
    assert page.named("html") == [{"lang": "en"}]
    assert len(page.named("h1")) == len(page.named("header")) == len(page.named("main")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = [link["href"] for link in page.named("a")]
    assert all(target and target[1:] in ids for target in targets)


def test_hostile_names_stay_text_everywhere() -> None:
    html = render_report(full_report(HOSTILE))
    page = Page(html)
    assert page.named("script") == []
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert "{{ 7 * 7 }}" in html and "49 " not in html
    shown = " ".join(page.texts)
    for prefix in ("Report", "Sub", "Fact", "Text", "Note", "First", "Because of", "Caption", "What", "Chosen by"):
        assert f"{prefix} {HOSTILE}".strip() in shown, prefix
    assert [image["alt"] for image in page.named("img")] == [f"Alt {HOSTILE}"]


def test_nothing_comes_from_outside() -> None:
    html = render_report(full_report())
    page = Page(html)
    for _, attributes in page.elements:
        for key in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(key) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), value
    without_pictures = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", without_pictures)
    policy = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_readers_without_sight_get_words() -> None:
    page = Page(render_report(full_report()))
    assert all(image.get("alt") for image in page.named("img"))
    assert all(drawing.get("role") == "img" and drawing.get("aria-label") for drawing in page.named("svg"))
    assert all(cell.get("scope") for cell in page.named("th"))
    assert "(worse)" in page.texts and "(better)" in page.texts, "colour is not the only sign"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(following <= level + 1 for level, following in pairwise(levels))


def test_both_themes_and_print_are_styled() -> None:
    html = render_report(full_report())
    style = html[html.index("<style>") : html.index("</style>")]
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    assert style.count("{") == style.count("}")
    used = set(re.findall(r"var\((--[\w-]+)\)", style))
    for block in re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL):
        assert used - {"--line"} <= set(re.findall(r"(--[\w-]+):", block)), "every theme defines every colour"


def test_pictures_come_out_as_they_went_in() -> None:
    (image,) = Page(render_report(full_report())).named("img")
    assert base64.b64decode((image["src"] or "").split(",")[1]) == dot_png()


def test_numbers_are_shown_with_their_change() -> None:
    texts = Page(render_report(full_report())).texts
    assert {"0.700", "0.800", "+0.100", "0.650", "0.750"} <= set(texts)
    assert "\u22120.050" in texts, "a loss on an earlier task"
    assert not any(text.startswith("+0.000") for text in texts)


def test_overview_names_the_greatest_loss_on_an_earlier_task() -> None:
    html = render_report(full_report())
    glance = html[html.index('id="overview"') : html.index('id="stage-1"')]
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", glance))
    assert "\u22120.050 (worse) kidney of older, by one model for all" in words
    assert "0.650 0.750 +0.100 (better)" in words


def test_own_task_stands_first_and_has_a_mean_of_its_labels() -> None:
    per_task, single = dice_tables(full_report().sections[0])
    assert [(group.task, group.own) for group in per_task.groups] == [("liver", True), ("older", False)]
    mean = per_task.groups[0].mean
    assert mean is not None
    assert (mean.before, mean.after) == (pytest.approx(0.65), pytest.approx(0.75))
    assert per_task.groups[1].mean is None, "one label needs no mean"
    assert per_task.low == pytest.approx(0.5)
    assert single.groups[0].summary.before is None


def test_mean_is_missing_when_a_label_was_not_measured() -> None:
    rows = [DiceRow("per-task", "t", "a", None, 0.9, 1), DiceRow("per-task", "t", "b", 0.5, 0.8, 1)]
    (table,) = dice_tables(StageSection("t", "M1", dice=rows))
    assert table.groups[0].summary.before is None
    assert table.groups[0].summary.after == pytest.approx(0.85)


def test_an_empty_report_is_a_page_too(tmp_path: Path) -> None:
    path = write_report(Report("Nothing yet"), tmp_path / "report.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert "Nothing yet" in page.texts
    assert page.named("table") == []
    Page(render_report(replace(Report("x"), sections=[StageSection("t", "M1")])))


def test_unwritable_report_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        write_report(Report("x"), tmp_path / "file" / "report.html")
    assert "\n" not in str(caught.value)


def test_report_needs_neither_torch_nor_matplotlib() -> None:
    heavy = {"torch", "matplotlib", "nilearn", "SimpleITK"}
    code = f"import sys, MedSeqFTLib.evaluation.report; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# --- charts ---------------------------------------------------------------------------------------------------------


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(tag))


def test_dumbbell_places_dots_by_value_and_colours_by_change() -> None:
    before, after = elements(charts.dice_chart(0.5, 0.75, low=0.5), "circle")
    assert (float(before.get("cx", "")), float(after.get("cx", ""))) == (8, 120)
    assert after.get("class") == "after better"
    assert elements(charts.dice_chart(0.9, 0.8, low=0.5), "circle")[1].get("class") == "after worse"
    assert len(elements(charts.dice_chart(None, 0.8, low=0.5), "circle")) == 1
    assert "not measured" in charts.dice_chart(None, None, low=0.0)


@pytest.mark.parametrize(
    ("before", "after", "kind"), [(0.8004, 0.8001, "same"), (0.8, 0.801, "better"), (0.8, 0.799, "worse")]
)
def test_change_is_judged_as_shown(before: float, after: float, kind: str) -> None:
    assert charts.change_class(before, after) == kind


def test_losses_lie_inside_the_chart_and_keep_their_colour() -> None:
    points = [(step, {"dice": 2.0 / (step + 1), "feature": 0.001, "broken": float("nan")}) for step in range(1000)]
    names = charts.loss_names({"A": points, "B": [(0, {"other": 1.0})]})
    assert names == ["dice", "feature", "broken", "other"]
    lines = elements(charts.loss_chart("A", points, names), "polyline")
    assert [line.get("class") for line in lines] == ["line-0 pale", "line-0", "line-1 pale", "line-1"]
    for line in lines:
        places = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
        assert 2 <= len(places) <= 250
        assert all(46 <= x <= 512 and 12 <= y <= 196 for x, y in places)


@pytest.mark.parametrize(
    "points",
    [[], [(0, {"a": 0.0})], [(5, {"a": -1.0})], [(0, {"a": float("inf")})], [(1, {"a": 2.0}), (1, {"a": 2.0})]],
)
def test_odd_losses_still_give_a_chart(points: list[tuple[int, dict[str, float]]]) -> None:
    drawing = charts.loss_chart("A", points, ["a"])
    assert "nan" not in drawing and "inf" not in drawing
    assert elements(drawing, "text")


def test_selection_is_sorted_and_marks_what_was_kept() -> None:
    rows = [
        charts.ScoredCase("c", 0.3, (0.29, 0.31), kept=False),
        charts.ScoredCase("a", 0.1, (0.1, 0.1), kept=True),
        charts.ScoredCase("b", 0.2, (0.16, 0.24), kept=False, tie=True),
    ]
    drawing = charts.selection_chart(rows)
    dots = elements(drawing, "circle")
    assert [dot.get("class") for dot in dots] == ["kept", "left-out tie", "left-out"]
    assert "1 kept, 1 in the tie zone" in drawing
    assert [float(dot.get("cy", "")) for dot in dots] == sorted(
        (float(dot.get("cy", "")) for dot in dots), reverse=True
    )
    assert [dot[0].text for dot in dots] == ["a: 0.1000", "b: 0.2000, tie zone", "c: 0.3000"]
    assert "no case" in charts.selection_chart([])


# --- pictures -------------------------------------------------------------------------------------------------------


def read_png(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def where(picture: np.ndarray, color: tuple[float, float, float]) -> np.ndarray:
    """Pixels [n, (row, column)] of about this colour."""
    return np.argwhere(abs(picture - np.array(color) * 255).sum(axis=2) < 90)


def box_case() -> tuple[np.ndarray, np.ndarray]:
    """A scan of 40 x 60 x 50 voxels; red: superior, anterior, left; blue: inferior, posterior, right."""
    labels = np.zeros((40, 60, 50), np.uint8)
    labels[24:30, 14:22, 30:38] = 1
    labels[8:14, 38:46, 12:20] = 2
    return np.random.default_rng(0).normal(100, 5, labels.shape), labels


UP, RIGHT, LEFT = (-1, 0), (0, 1), (0, -1)  # rows, columns of a picture


@pytest.mark.parametrize(
    ("satellite", "directions"),
    [
        ((slice(30, 34), slice(28, 32), slice(23, 27)), {"coronal": UP, "sagittal": UP}),  # superior of the box
        ((slice(18, 22), slice(10, 14), slice(23, 27)), {"axial": UP, "sagittal": LEFT}),  # anterior
        ((slice(18, 22), slice(28, 32), slice(38, 42)), {"axial": RIGHT, "coronal": RIGHT}),  # at the patient's left
    ],
)
def test_panel_shows_left_on_the_right_nose_up_and_head_up(
    satellite: tuple[slice, ...], directions: dict[str, tuple[int, int]]
) -> None:
    labels = np.zeros((40, 60, 50), np.uint8)
    labels[17:23, 27:33, 22:28] = 1
    labels[satellite] = 2
    picture = read_png(outline_panel(labels * 9, [("r", labels)], {1: RED, 2: BLUE}, (3, 2, 2.5), margin=200))
    columns = zip(("axial", "coronal", "sagittal"), np.split(picture, [433, 867], axis=1), strict=True)
    for view, part in columns:
        if view in directions:
            shift = where(part, BLUE).mean(axis=0) - where(part, RED).mean(axis=0)
            assert shift / np.linalg.norm(shift) == pytest.approx(directions[view], abs=0.15), view


def test_panel_has_true_proportions_in_mm() -> None:
    labels = np.zeros((20, 60, 40), np.uint8)
    labels[6:14, 20:40, 10:30] = 1  # 32 x 20 x 20 mm
    picture = read_png(
        outline_panel(np.zeros(labels.shape) + labels, [("r", labels)], {1: RED}, (4.0, 1.0, 1.0), margin=9)
    )
    red = where(picture, RED)
    first = picture.shape[1] * 40 / 120
    extent = [np.ptp(red[(red[:, 1] >= low) & (red[:, 1] < low + first)], axis=0) for low in (0, first, 2 * first)]
    assert extent[0][0] / extent[0][1] == pytest.approx(20 / 20, rel=0.06), "axial: y by x"
    assert extent[1][0] / extent[1][1] == pytest.approx(32 / 20, rel=0.06), "coronal: z by x"
    assert extent[2][0] / extent[2][1] == pytest.approx(32 / 20, rel=0.06), "sagittal: z by y"


def test_panel_has_a_row_for_each_overlay_and_a_legend() -> None:
    image, labels = box_case()
    one = read_png(outline_panel(image, [("a", labels)], {1: RED, 2: BLUE}, (2, 2, 2)))
    three = read_png(outline_panel(image, [("a", labels), ("b", labels), ("c", labels)], {1: RED, 2: BLUE}, (2, 2, 2)))
    named = read_png(outline_panel(image, [("a", labels)], {1: RED}, (2, 2, 2), {1: "a name"}))
    assert three.shape[0] == pytest.approx(3 * one.shape[0], abs=3)
    assert len(where(three, RED)) > 2.5 * len(where(one, RED)) > 0
    assert named.shape[0] > one.shape[0]
    assert one.shape[1] == named.shape[1] >= 1000


def test_overlays_are_shown_on_the_slices_of_the_reference() -> None:
    image, labels = box_case()
    other = np.zeros_like(labels)
    other[0:2, 0:2, 0:2] = 1
    picture = read_png(outline_panel(image, [("Before", other), ("Reference", labels)], {1: RED}, (2, 2, 2)))
    half = picture.shape[0] // 2
    assert len(where(picture[:half], RED)) == 0
    assert len(where(picture[half:], RED)) > 0


@pytest.mark.parametrize("reference", ["empty", "full"])
def test_panel_of_nothing_and_of_everything_is_drawn(reference: str) -> None:
    labels = np.full((9, 10, 11), reference == "full", np.uint8)
    assert read_png(outline_panel(np.zeros(labels.shape), [("r", labels)], {1: RED}, (1, 1, 1))).size


def test_panel_refuses_other_shapes() -> None:
    image, labels = box_case()
    with pytest.raises(InputError, match="Before"):
        outline_panel(image, [("Before", labels[1:])], {1: RED}, (1, 1, 1))
    with pytest.raises(InputError, match="at least one"):
        outline_panel(image, [], {}, (1, 1, 1))


def test_titles_are_not_read_as_formulas() -> None:
    image, labels = box_case()
    assert outline_panel(image, [("a $x^{ $b", labels)], {1: RED}, (1, 1, 1), {1: "c_$d$^"})


def test_case_picture_is_the_same_however_the_scan_is_stored() -> None:
    array, labels = box_case()
    image, reference = (sitk.GetImageFromArray(part) for part in (array, labels))
    for part in (image, reference):
        part.SetSpacing((2.0, 2.5, 3.0))
    task = [Label(value=1, name="red one", color=RED), Label(value=2, name="blue one", color=BLUE)]
    plain = case_picture(image, [("Reference", reference)], task, "Case 1.")
    turned = case_picture(
        *(sitk.DICOMOrient(image, "PIR"), [("Reference", sitk.DICOMOrient(reference, "PIR"))]), task, "Case 1."
    )
    assert plain.png == turned.png
    assert plain.caption == f"Case 1. {CONVENTION}"
    assert "red one, blue one" in plain.alt and "Reference" in plain.alt
    reference.SetOrigin((1, 0, 0))
    with pytest.raises(GeometryError, match="Reference"):
        case_picture(image, [("Reference", reference)], task, "")


def test_the_judgement_of_the_gate_stands_with_its_task() -> None:
    row = DiceRow("single-model", "heart", "<wall>", 0.8, 0.7, 6)
    judged = {("single-model", "heart"): "worse (95 % <interval>)", ("per-task", "heart"): "better"}
    section = StageSection(task="brain", version="M2", dice=[row], judgements=judged)
    text = render_report(Report(title="report", sections=[section]))
    assert "worse (95 % &lt;interval&gt;)" in text
    assert "better</span>" not in text  # it was not measured in this reading
