"""The event stream of a job."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import pytest

from MedSeqFTLib.errors import StorageError
from MedSeqFTLib.jobs import events as events_module
from MedSeqFTLib.jobs.events import (
    Event,
    EventWriter,
    Progress,
    end_of_events,
    events_of_kind,
    last_event,
    read_events,
    thinned_events,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def write(path, *events):
    with EventWriter(path) as writer:
        for event in events:
            writer.append(event)


def progress_event(step, **fields):
    return Event(kind="progress", stage="adapt", step=step, total=100, **fields)


def test_events_come_back_as_written(path):
    events = [
        Event(kind="started"),
        progress_event(3, loss=0.5, losses={"dice": 0.2, "feature": 0.3}, seconds_left=12.5),
        Event(kind="warning", text="the label \u2018n\u00e4rve\u2019 is empty\nin one case"),
        Event(kind="finished", version="M1"),
    ]
    write(path, *events)
    assert read_events(path)[0] == events
    assert len(path.read_bytes().splitlines()) == len(events)


def test_a_job_without_events(path):
    assert read_events(path) == ([], 0)
    assert last_event(path) is None


def test_a_reader_goes_on_where_it_was(path):
    write(path, Event(kind="started"))
    first, offset = read_events(path)
    assert read_events(path, offset) == ([], offset)
    write(path, progress_event(1))
    second, end = read_events(path, offset)
    assert [event.kind for event in first + second] == ["started", "progress"]
    assert end == path.stat().st_size


def test_a_loss_that_is_no_number_is_unknown(path):
    write(path, progress_event(1, loss=math.nan, losses={"dice": math.inf, "feature": 0.5}, seconds_left=math.inf))
    event = read_events(path)[0][0]
    assert (event.loss, event.seconds_left, event.losses) == (None, None, {"dice": None, "feature": 0.5})
    json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_wherever_the_file_is_torn_whole_lines_are_read(path):
    events = [progress_event(step, text="\u00e4\u00f6") for step in range(2)]
    write(path, *events)
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        found, offset = read_events(path)
        assert found == events[: whole[:size].count(b"\n")]
        assert last_event(path) == (found[-1] if found else None)
        path.write_bytes(whole)  # the worker completes the line
        assert found + read_events(path, offset)[0] == events


def test_the_next_writer_removes_a_torn_line(path):
    write(path, Event(kind="started"), progress_event(1))
    path.write_bytes(path.read_bytes()[:-7])
    write(path, Event(kind="started"))
    assert [event.kind for event in read_events(path)[0]] == ["started", "started"]


def test_a_file_of_one_torn_line_is_emptied(path):
    path.write_bytes(b'{"kind": "star')
    write(path)
    assert path.read_bytes() == b""


def test_fields_of_a_newer_program_are_ignored(path):
    line = b'{"time":"2030-01-01T00:00:00Z","kind":"started","schema":9,"gpu_degrees":{"cuda:0":60}}'
    path.write_bytes(events_module._with_checksum(line) + b"\n")
    assert [event.kind for event in read_events(path)[0]] == ["started"]


def test_a_line_of_an_older_program_has_no_checksum(path):
    path.write_bytes(b'{"time":"2030-01-01T00:00:00Z","kind":"started"}\n')
    assert [event.kind for event in read_events(path)[0]] == ["started"]


def test_no_flipped_bit_goes_unnoticed(path):
    """Not in the checksum, either, nor in the end of the last line."""
    write(path, Event(kind="started"), Event(kind="finished", version="M1"))
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        path.write_bytes(bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(whole)))
        events, offset = read_events(path)
        told = [event for event in events if event.kind == "warning"]
        assert told and str(path) in told[0].text
        thinned = thinned_events(path)
        assert any(event.kind == "warning" for event in thinned[0])
        assert thinned[1] == offset


@pytest.mark.parametrize(
    "line", [b"\x00\x00\x00", b"[1, 2]", b'{"time":"2030-01-01T00:00:00Z","kind":"paused"}', b"\xff{}"]
)
def test_a_line_that_is_not_understood_is_told_and_does_not_hide_the_others(path, line):
    write(path, Event(kind="started"))
    with path.open("ab") as file:
        file.write(line + b"\n")
    write(path, Event(kind="finished"))
    events = read_events(path)[0]
    assert [event.kind for event in events] == ["started", "warning", "finished"]
    assert str(path) in events[1].text


def test_the_last_event_of_a_long_file(path):
    write(path, *(progress_event(step, text="x" * 5000) for step in range(40)))
    assert path.stat().st_size > 2 * 65536
    assert last_event(path).step == 39


def test_a_full_disk_is_told_and_leaves_whole_lines(path):
    resource = pytest.importorskip("resource", reason="file size limits need POSIX")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with EventWriter(path) as writer:
        writer.append(Event(kind="started"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
        try:
            with pytest.raises(StorageError, match=r"events\.jsonl"):
                writer.append(progress_event(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        writer.append(progress_event(2))
    assert [event.step for event in read_events(path)[0]] == [None, 2]


def test_progress_sums_events_up():
    progress = Progress()
    for event in (
        Event(kind="started"),
        Event(kind="message", device="cuda:0", text="Computing on cuda:0."),
        Event(kind="stage", stage="A", step=0, total=10),
        Event(kind="progress", stage="A", step=4, total=10, loss=0.25, losses={"dice": 0.25}, seconds_left=6.0),
        Event(kind="warning", text="case c1 is small"),
    ):
        progress.follow(event)
    assert (progress.stage, progress.step, progress.total, progress.loss) == ("A", 4, 10, 0.25)
    assert (progress.device, progress.seconds_left, progress.warnings) == ("cuda:0", 6.0, ["case c1 is small"])
    progress.follow(Event(kind="finished", version="M3"))
    assert (progress.version, progress.seconds_left, progress.starts) == ("M3", None, 1)


def test_progress_of_a_resumed_job_forgets_why_it_failed():
    progress = Progress()
    for kind, text in (("started", None), ("failed", "disk full"), ("started", None)):
        progress.follow(Event(kind=kind, text=text))
    assert (progress.text, progress.starts) == (None, 2)


def write_long_job(path, steps, warnings=0):
    """Two stages of so many steps, a resume in between, and an end."""
    with EventWriter(path) as writer:
        for stage in ("A", "B"):
            writer.append(Event(kind="started"))
            writer.append(Event(kind="stage", stage=stage, step=0, total=steps))
            for step in range(1, steps + 1):
                losses = {"dice": 1 / step, "feature": 0.25}
                writer.append(Event(kind="progress", stage=stage, step=step, total=steps, loss=1 / step, losses=losses))
                if step <= warnings:
                    writer.append(Event(kind="warning", text=f"warning {step} of {stage}"))
        writer.append(Event(kind="finished", version="M7"))


def summed_up(events):
    progress = Progress()
    for event in events:
        progress.follow(event)
    return progress


def test_a_thinned_stream_tells_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "_BLOCK", 1000)  # lines go over the borders of blocks
    path = tmp_path / "events.jsonl"
    write_long_job(path, 5000, warnings=3)
    everything, end = read_events(path)
    thinned, offset = thinned_events(path, most=200)
    assert offset == end == end_of_events(path)
    assert summed_up(thinned) == summed_up(everything)
    assert [e for e in thinned if e.kind != "progress"] == [e for e in everything if e.kind != "progress"]
    assert [e.time for e in thinned] == sorted(e.time for e in thinned)
    curve = {stage: [e.step for e in thinned if e.kind == "progress" and e.stage == stage] for stage in "AB"}
    for steps in curve.values():
        assert 40 <= len(steps) <= 160
        assert steps == sorted(steps) and steps[-1] == 5000
    assert events_of_kind(path, "started") == [e for e in everything if e.kind == "started"]


def test_a_short_stream_is_not_thinned(tmp_path):
    path = tmp_path / "events.jsonl"
    write_long_job(path, 50, warnings=2)
    assert thinned_events(path) == read_events(path)


def test_a_thinned_stream_goes_on_where_it_ended_and_leaves_out_a_torn_line(tmp_path):
    path = tmp_path / "events.jsonl"
    write_long_job(path, 300)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"kind":"mess')
    _, offset = thinned_events(path, most=50)
    assert offset == whole == end_of_events(path)
    with EventWriter(path) as writer:
        writer.append(Event(kind="queued"))
    assert [event.kind for event in read_events(path, offset)[0]] == ["queued"]
    assert thinned_events(tmp_path / "missing.jsonl") == ([], 0)


def test_old_warnings_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "_MOST_TOLD", 10)
    path = tmp_path / "events.jsonl"
    write_long_job(path, 30, warnings=30)
    told = [event.text for event in thinned_events(path)[0] if event.kind == "warning"]
    assert told == [f"warning {number} of B" for number in range(21, 31)]
    assert len(summed_up(Event(kind="warning", text=str(number)) for number in range(500)).warnings) == 100


@pytest.mark.slow
def test_hundreds_of_thousands_of_events_take_little_memory(tmp_path):
    path = tmp_path / "events.jsonl"
    write_long_job(path, 150_000)
    assert path.stat().st_size > 40e6
    tracemalloc.start()
    thinned, _ = thinned_events(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6
    assert (thinned[-1].version, summed_up(thinned).step) == ("M7", 150_000)


def test_a_line_with_a_flipped_bit_is_left_out_and_told(tmp_path: Path) -> None:
    """Although it can still be read: a loss of 7 would pass for one of 3."""
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as events:
        events.append(Event(kind="progress", step=3, total=9))
    path.write_bytes(path.read_bytes().replace(b'"step":3', b'"step":7'))
    (event,), _ = read_events(path)
    assert event.kind == "warning" and "events.jsonl: a line is damaged" in (event.text or "")
