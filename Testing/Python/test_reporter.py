"""What the learning code tells, with a clock that the test moves."""

from __future__ import annotations

import pytest

from MedSeqFTLib.jobs.events import EventWriter, read_events
from MedSeqFTLib.jobs.reporter import Cancelled, Reporter


class Clock:
    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reporter(tmp_path, clock):
    with EventWriter(tmp_path / "events.jsonl") as events:
        yield Reporter(tmp_path, events, tmp_path / "cancel", clock)


def steps_written(reporter):
    return [event.step for event in read_events(reporter.folder / "events.jsonl")[0] if event.kind == "progress"]


def run(reporter, clock, name, total, seconds_a_step, first=1, last=None):
    reporter.stage(name, total, done=first - 1)
    for step in range(first, (last or total) + 1):
        clock.time += seconds_a_step
        reporter.step(step, {"loss": 1.0})


def test_few_events_a_second_but_the_first_and_the_last(reporter, clock):
    run(reporter, clock, "A", 1000, 0.01)
    steps = steps_written(reporter)
    assert steps[0] == 1
    assert steps[-1] == 1000
    assert 30 <= len(steps) <= 42  # ten seconds


def test_events_of_a_long_job_become_rarer(reporter, clock):
    run(reporter, clock, "A", 20_000, 1.0)
    assert 3_000 <= len(steps_written(reporter)) <= 6_000


def test_a_week_takes_a_few_megabytes(reporter, clock):
    run(reporter, clock, "A", 60_480, 10.0)
    assert len(steps_written(reporter)) <= 30_000


def test_losses_are_converted_only_when_they_are_written(reporter, clock):
    class OnTheGpu:
        conversions = 0

        def __float__(self):
            OnTheGpu.conversions += 1
            return 0.5

    reporter.stage("A", 1000)
    for step in range(1, 101):
        clock.time += 0.001
        reporter.step(step, {"dice": OnTheGpu()})
    assert OnTheGpu.conversions == len(steps_written(reporter)) == 1


@pytest.mark.parametrize(
    ("losses", "loss"),
    [({"dice": 0.25, "feature": 0.5}, 0.75), ({"loss": 3.0, "dice": 1.0}, 3.0), ({}, None), (None, None)],
)
def test_the_loss_of_an_event(reporter, losses, loss):
    reporter.stage("A", 1)
    reporter.step(1, losses)
    event = read_events(reporter.folder / "events.jsonl")[0][-1]
    assert event.loss == loss
    assert event.losses == (losses or {})


def test_nothing_is_known_of_the_time_before_the_first_step(reporter, clock):
    reporter.plan([("A", 10), ("B", 10)])
    assert reporter.seconds_left is None
    reporter.stage("A", 10)
    assert reporter.seconds_left is None
    clock.time += 2
    reporter.step(1)
    assert reporter.seconds_left == pytest.approx(9 * 2 + 10 * 2)


def test_little_work_tells_nothing_about_much(reporter, clock):
    reporter.plan([("prepare", 1), ("A", 100)])
    run(reporter, clock, "prepare", 10, 0.01)
    assert reporter.seconds_left is None
    run(reporter, clock, "A", 100, 2.0, last=1)
    assert reporter.seconds_left == pytest.approx(99 * 2.0)


def test_time_left_counts_the_stages_to_come_by_their_units(reporter, clock):
    reporter.plan([("score", 50), ("A", 200), ("B", 100)])
    run(reporter, clock, "score", 5, 10.0)  # a step of 10 s is worth 10 units
    assert reporter.seconds_left == pytest.approx(300)
    reporter.stage("A", 400)
    assert reporter.seconds_left == pytest.approx(300)


def test_the_present_stage_goes_at_its_own_speed(reporter, clock):
    reporter.plan([("A", 100), ("B", 100)])
    run(reporter, clock, "A", 100, 1.0)
    run(reporter, clock, "B", 100, 4.0, last=50)
    assert reporter.seconds_left == pytest.approx(50 * 4.0)


def test_a_change_of_speed_is_noticed_within_minutes(reporter, clock):
    reporter.plan([("A", 1000)])
    run(reporter, clock, "A", 1000, 1.0, last=300)
    for step in range(301, 341):
        clock.time += 5.0  # another program took the GPU
        reporter.step(step)
    assert reporter.seconds_left == pytest.approx(660 * 5.0, rel=0.02)


def test_a_resumed_job_counts_what_was_done_before_as_done(reporter, clock):
    reporter.plan([("score", 1000), ("A", 100), ("B", 100)])
    run(reporter, clock, "A", 100, 1.0, first=61, last=80)
    assert reporter.seconds_left == pytest.approx(20 + 100)


def test_a_finished_stage_may_be_told_again(reporter, clock):
    reporter.plan([("A", 100), ("B", 10)])
    reporter.stage("A", 100, done=100)
    run(reporter, clock, "B", 10, 3.0, last=5)
    assert reporter.seconds_left == pytest.approx(15)


def test_a_stage_that_was_not_planned(reporter, clock):
    run(reporter, clock, "surprise", 10, 2.0, last=5)
    assert reporter.seconds_left == pytest.approx(10)


def test_an_empty_stage_is_done_at_once(reporter, clock):
    reporter.plan([("A", 10), ("nothing", 5)])
    run(reporter, clock, "A", 10, 1.0)
    reporter.stage("nothing", 0)
    assert reporter.seconds_left == 0


def test_stages_of_a_plan_must_differ(reporter):
    with pytest.raises(ValueError, match="A"):
        reporter.plan([("A", 1), ("A", 2)])


def test_cancel_is_noticed_on_the_next_step(reporter, clock):
    reporter.stage("A", 100)
    (reporter.folder / "cancel").touch()
    clock.time += 0.1
    reporter.step(1)  # looked less than half a second ago
    clock.time += 0.5
    with pytest.raises(Cancelled):
        reporter.step(2)
    with pytest.raises(Cancelled):  # and on every further occasion
        reporter.check_cancel()


def test_a_job_that_was_cancelled_before_it_began(reporter):
    (reporter.folder / "cancel").touch()
    with pytest.raises(Cancelled):
        reporter.stage("A", 100)


def test_messages_carry_the_stage_and_the_device(reporter):
    reporter.stage("A", 1)
    reporter.message("loading")
    reporter.warning("case c1 is small")
    reporter.device("cuda:0", "Computing on an H100.")
    events = read_events(reporter.folder / "events.jsonl")[0][1:]
    assert [(event.kind, event.text) for event in events] == [
        ("message", "loading"),
        ("warning", "case c1 is small"),
        ("message", "Computing on an H100."),
    ]
    assert {event.stage for event in events} == {"A"}
    assert events[-1].device == "cuda:0"
