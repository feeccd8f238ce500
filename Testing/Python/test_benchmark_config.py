"""Descriptions of benchmarks: what they may say, and which stages follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.learning.benchmark.cells import Cell, Planner, urgent_first
from MedSeqFTLib.learning.benchmark.config import BenchmarkConfig, read_config, shipped_config
from MedSeqFTLib.learning.strategies.names import STRATEGIES

TASKS = """
[[tasks]]
name = "a"
folder = "A"
held_out = 1
steps = 10

[[tasks]]
name = "b"
folder = "B"
held_out = 1
steps = 20
"""
TEXT = f"""
title = "two tasks"
{TASKS}
[[strategies]]
kind = "parallel"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "benchmark.toml"
    path.write_text(text, encoding="utf-8")
    return path


def config(folder: Path, text: str = TEXT) -> BenchmarkConfig:
    return read_config(written(folder, text))


def strategies(*kinds: str) -> str:
    return TEXT.replace('[[strategies]]\nkind = "parallel"\n', "".join(f"[[strategies]]\n{kind}\n" for kind in kinds))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("title =", "titel =", r"unknown key 'titel'; did you mean 'title'\? Allowed are: title, tasks"),
        ("steps = 10", "stepz = 10", r"tasks\.0.*unknown key 'stepz'; did you mean 'steps'\?"),
        ("steps = 10", "steps = 0", r"tasks\.0\.steps: Input should be greater than or equal to 1"),
        ('kind = "parallel"', 'kind = "parralel"', "kind 'parralel' is unknown; allowed are: parallel, multi-task"),
        (
            'kind = "parallel"',
            'kind = "parallel"\nsettings = { lora_rnak = 3 }',
            "unknown key 'lora_rnak'; did you mean 'lora_rank'",
        ),
        (
            'kind = "parallel"',
            'kind = "parallel"\nsettings = { lora_rank = 0 }',
            "field lora_rank.*greater than or equal",
        ),
        (
            'kind = "parallel"',
            'kind = "parallel"\nsettings = { precision = "float32" }',
            r"strategies\.0: 'precision' holds for the whole benchmark: set it under \[settings\]",
        ),
        ("steps = 20", "steps = 20\nsettings = { threads = 2 }", r"tasks\.1: 'threads' holds for the whole benchmark"),
        ('kind = "parallel"', 'kind = "parallel"\n[[strategies]]\nkind = "parallel"', "'Parallel' stands there twice"),
        (
            'kind = "parallel"',
            'kind = "parallel"\n[[strategies]]\nkind = "lwf"\nlabel = "Parallel"',
            "strategy 'Parallel' stands there twice",
        ),
        ('name = "b"', 'name = "A"', "task 'a' stands there twice"),
        (
            'title = "two tasks"',
            'title = "x"\norders = [["a"]]',
            r"each of 'orders' must name every task once \(a, b\)",
        ),
        ('title = "two tasks"', 'title = "x"\nseeds = []', "seeds"),
        (
            'kind = "parallel"',
            'kind = "parallel"\ntransfer = [1]',
            "names order 1; orders are numbered from 0 to 0",
        ),
        ('folder = "A"', "", "task 'a' needs either a folder or drawn scans"),
        ("held_out = 1", "held_out = 1\nunseen = true", "every task is unseen"),
        ('title = "two tasks"', "title = two", "is not a TOML file"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"(?s)benchmark\.toml.*{message}"):
        config(tmp_path, TEXT.replace(before, after))


def test_device_threads_and_precision_are_those_of_the_file_unless_given(tmp_path: Path) -> None:
    text = TEXT.replace("[[tasks]]", '[settings]\ndevice = "cpu"\nthreads = 3\nprecision = "float32"\n[[tasks]]', 1)
    computing = config(tmp_path, text).computing(device=None, threads=1)
    assert (computing.device, computing.threads, computing.precision) == ("cpu", 1, "float32")
    with pytest.raises(InputError, match=r"field device: .*cuda"):
        config(tmp_path, text).computing(device="gpu")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.toml cannot be read"):
        read_config(tmp_path / "gone.toml")


@pytest.mark.parametrize("name", ["smoke", "small-real", "paper-like"])
def test_shipped_benchmarks_can_be_read_and_name_every_strategy(name: str) -> None:
    path = shipped_config(name)
    assert path is not None
    found = read_config(path)
    assert {strategy.kind for strategy in found.strategies} == set(STRATEGIES)
    assert any(strategy.transfer for strategy in found.strategies)


@pytest.mark.parametrize("name", ["small-real-ablations", "small-real-longer"])
def test_the_others_share_the_tasks_of_small_real(name: str) -> None:
    path, whole = shipped_config(name), shipped_config("small-real")
    assert path is not None and whole is not None
    tasks = {task.name: task for task in read_config(whole).tasks}
    for task in read_config(path).tasks:
        assert task == tasks[task.name].model_copy(update={"steps": task.steps})


def test_paper_like_says_where_the_data_is_from() -> None:
    path = shipped_config("paper-like")
    assert path is not None
    tasks = read_config(path).tasks
    assert sum(not task.unseen for task in tasks) == 10
    assert {task.name for task in tasks if task.unseen} == {"covid-19-20", "kidney"}
    assert all("http" in task.source for task in tasks)


@pytest.mark.parametrize("name", ["../smoke", "Smoke", "none-of-these"])
def test_other_names_are_no_shipped_benchmarks(name: str) -> None:
    assert shipped_config(name) is None


def runs_of(config: BenchmarkConfig) -> dict[str, tuple[Cell, ...]]:
    return {run.strategy.kind: run.stages for run in Planner(config, "data").runs()}


def test_stages_in_common_are_one_cell(tmp_path: Path) -> None:
    found = runs_of(config(tmp_path, strategies(*(f'kind = "{kind}"' for kind in STRATEGIES))))
    a, b = found["parallel"]
    assert found["sequential"][0].key == a.key == found["lwf"][0].key
    assert found["sequential"][1].key != b.key
    assert found["sequential"][1].parent is found["sequential"][0]
    assert found["lora"][1].parent is None
    assert found["multi-task"][0].learned == ("a", "b")
    assert found["multi-task"][0].steps == 30
    keys = {cell.key for cells in found.values() for cell in cells}
    assert len(keys) == 2 + 1 + 1 + 1 + 2 + 2 + 2 + 2 + 2


def test_what_most_work_waits_for_comes_first(tmp_path: Path) -> None:
    text = strategies('kind = "linear-probe"', 'kind = "multi-task"', 'kind = "sequential"')
    (probe, *_), both, chain = runs_of(config(tmp_path, text)).values()
    cells = [probe, *both, *chain]
    cost = {probe.key: 5.0, both[0].key: 30.0, chain[0].key: 10.0, chain[1].key: 25.0}
    ordered = urgent_first(cells, lambda cell: cost[cell.key])
    assert ordered == [chain[0], both[0], chain[1], probe], "10 + 25 wait for the first, then 30, 25 and 5"


def test_a_setting_of_one_strategy_computes_no_other_again(tmp_path: Path) -> None:
    texts = [
        strategies('kind = "parallel"', f'kind = "lwf"\nsettings = {{ lwf_weight = {weight} }}') for weight in (1, 2)
    ]
    first, second = (runs_of(config(tmp_path, text)) for text in texts)
    assert [c.key for c in first["parallel"]] == [c.key for c in second["parallel"]]
    assert first["lwf"][0].key == second["lwf"][0].key
    assert first["lwf"][1].key != second["lwf"][1].key


@pytest.mark.parametrize(
    ("before", "after"), [("steps = 10", "steps = 11"), ("title", "seeds = [1]\ntitle"), ("kind", "budget = 2\nkind")]
)
def test_whatever_a_result_depends_on_changes_its_name(tmp_path: Path, before: str, after: str) -> None:
    first, second = runs_of(config(tmp_path)), runs_of(config(tmp_path, TEXT.replace(before, after)))
    assert first["parallel"][0].key != second["parallel"][0].key


def test_where_and_how_often_it_is_saved_changes_no_name(tmp_path: Path) -> None:
    other = TEXT.replace("[[tasks]]", "[settings]\nthreads = 1\ncheckpoint_seconds = 5\n[[tasks]]", 1)
    assert [c.key for c in runs_of(config(tmp_path))["parallel"]] == [
        c.key for c in runs_of(config(tmp_path, other))["parallel"]
    ]


def test_left_out_tasks_begin_with_a_chain_over_the_others(tmp_path: Path) -> None:
    text = strategies('kind = "sequential"\ntransfer = [0]').replace("title", "leave_one_out = true\ntitle")
    (run,) = Planner(config(tmp_path, text), "data").runs()
    left_out = run.transfers["b"]
    assert left_out.parent is not None
    assert (left_out.task, left_out.parent.task, left_out.parent.parent) == ("b", "a", None)
    assert left_out.key == run.stages[1].key, "the same as the last stage of the whole order"
    assert run.transfers["a"].parent is not None
    assert run.transfers["a"].parent.learned == ("b",)
