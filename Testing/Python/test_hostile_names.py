"""Names from files and people: none leaves its folder; no page, terminal, spreadsheet or label obeys one."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_report import Page, full_report
from workspace_samples import ROOT

from MedSeqFTLib.commands import console
from MedSeqFTLib.errors import InputError, visible
from MedSeqFTLib.evaluation.report import render_report, write_report
from MedSeqFTLib.evaluation.tables import csv_text, markdown_text
from MedSeqFTLib.learning.errand_settings import AcceptSettings
from MedSeqFTLib.workspace.names import checked_name, free_name, inner_path, is_file_name, same_name

OUTSIDE = (
    "", ".", "..", "../a", "a/../../b", "/a", "\\a", "\\\\server\\share", "C:a", "C:\\a", "a:b", "a\0b", "a\nb",
    "a\u202eb", "a\u200bb", "a\ud800b", "CON", "con.nii.gz", "NUL", "COM1.nrrd", "lpt9", "aux .txt", "a.", "a ",
    "a/b.", "a?b", "a*b",
)  # fmt: skip
ENDLESS = "x" * 300


@pytest.mark.parametrize("name", [*OUTSIDE, "a/b", "a\\b", "e\u0301", "\u00e9", ENDLESS, "-a", ".a"])
def test_names_of_tasks_and_cases(name: str) -> None:
    with pytest.raises(InputError):
        checked_name(name, "case")


@pytest.mark.parametrize("name", OUTSIDE)
def test_paths_in_files(name: str) -> None:
    assert inner_path(name) is None
    assert not is_file_name(name)


def test_usual_paths() -> None:
    assert inner_path("./imagesTr/la_003.nii.gz") == ("imagesTr", "la_003.nii.gz")
    assert inner_path("imagesTr\\a b (1).nii.gz") == ("imagesTr", "a b (1).nii.gz")
    assert inner_path("bilder/\u00e9.nrrd") == ("bilder", "\u00e9.nrrd")
    assert is_file_name("scan.seg.nrrd") and not is_file_name("a/scan.nrrd")


def test_names_that_differ_in_case_only() -> None:
    assert same_name("Liver", "liver")
    assert free_name("Liver", ["liver"]) == "Liver-2"


@pytest.mark.parametrize("field", ["image", "segmentation"])
@pytest.mark.parametrize("name", ["../../models/M0/version.json", "/etc/hostname", "a/b.nrrd", "NUL"])
def test_files_of_an_errand_lie_in_its_folder(field: str, name: str) -> None:
    files = {"image": "image.nrrd", "segmentation": "a.seg.nrrd", field: name}
    with pytest.raises(ValidationError, match="not the name of a file in the job's folder"):
        AcceptSettings(role="train", case_id="a", **files)


TEXTS = st.text(st.sampled_from("<>&\"'/=`{}%#;!-[]() aA1\t\0\x1b\u202e\u200b\u2028\ud800"), min_size=1, max_size=40)


@settings(max_examples=8)
@given(TEXTS)
def test_a_name_never_becomes_part_of_the_page(name: str) -> None:
    """The same elements with the same attributes, whatever the name."""
    usual, page = (Page(render_report(full_report(text))) for text in ("liver", name))
    assert [(tag, sorted(attributes)) for tag, attributes in page.elements] == [
        (tag, sorted(attributes)) for tag, attributes in usual.elements
    ]


def test_a_page_can_always_be_written(tmp_path: Path) -> None:
    write_report(full_report("half \ud800 turned \u202e"), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Report half \\ud800 turned \\u202e" in text


@given(TEXTS)
def test_what_is_shown_cannot_command_a_terminal(name: str) -> None:
    shown = visible(name)
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    shown.encode("utf-8")


def test_the_command_line_prints_names_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "case\x1b]0;title\x07\x1b[2J\x9b31m[red]bold[/red]"
    console.say(hostile)
    console.print_table(["name"], [[hostile]], "")
    console.print_table(["name"], [[hostile]] * 1000, "")
    console.print_facts([("name", hostile)])
    console.warn(hostile)
    console.complain(hostile)
    told = "".join(capsys.readouterr())
    assert "\x1b" not in told and "\x07" not in told and "\x9b" not in told
    assert told.count("case\\x1b]0;title\\x07\\x1b[2J\\x9b31m[red]bold[/red]") == 1005


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", " =1+1", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(name: str) -> None:
    ((cell, number),) = csv.reader(io.StringIO(csv_text([[name, "-1.5"]]), newline=""))
    assert cell in ("'" + name, repr(name)[1:-1])
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))
    assert number == "-1.5"


def test_markdown_shows_names_as_text() -> None:
    assert markdown_text("<img src=x> [a](b) `c` |") == "&lt;img src=x&gt; \\[a\\](b) \\`c\\` \\|"


def test_every_label_of_the_window_says_how_it_takes_its_text() -> None:
    """Qt guesses otherwise, and a name with <img src=...> in it would load a picture."""
    tree = ElementTree.parse(ROOT / "MedSeqFT" / "Resources" / "UI" / "MedSeqFT.ui")
    formats = {
        widget.get("name"): [p.findtext("enum") for p in widget.findall("property") if p.get("name") == "textFormat"]
        for widget in tree.iter("widget")
        if widget.get("class") == "QLabel"
    }
    assert formats.pop("adaptPreflightLabel") == ["Qt::RichText"]  # which escapes what it shows: see preflight.as_html
    assert formats and all(found == ["Qt::PlainText"] for found in formats.values())
