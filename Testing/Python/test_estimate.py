"""How long an adaptation will take: unknown at first, then in proportion to what was measured."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import workspace_samples as samples
from pydantic import JsonValue

from MedSeqFTLib.jobs import control
from MedSeqFTLib.jobs.estimate import Estimate, estimate
from MedSeqFTLib.jobs.events import Event, EventWriter
from MedSeqFTLib.jobs.job import job_folder
from MedSeqFTLib.learning.forecast import next_adaptation
from MedSeqFTLib.learning.settings import adapt_settings
from MedSeqFTLib.workspace.files import write_json
from MedSeqFTLib.workspace.workspace import Workspace

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
BALANCED = adapt_settings("balanced", {})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two training cases, which M1 has learned."""
    found = Workspace.create(tmp_path / "workspace")
    found.add_task(samples.a_task())
    for name in ("one", "two"):
        samples.add_case(found, name, name.encode())
    for name, parent, task in (("M0", None, None), ("M1", "M0", "brain")):
        files = samples.weights_folder(tmp_path / name)
        version = samples.a_version(name, files, task, parent)
        found.publish(version.model_copy(update={"train_cases": ("one", "two") if task else ()}), files)
    return found


def a_job(workspace: Workspace, preset: str, *moments: tuple[str, float], text: str = "", **unknown: JsonValue) -> str:
    """What a job would have left behind: kinds of events and their seconds since the beginning."""
    settings = adapt_settings(preset, {}).model_dump(mode="json")
    job = control.new_job(workspace, "adapt", "brain", {**settings, **unknown})
    folder = job_folder(workspace, job.id)
    folder.path.mkdir(parents=True)
    write_json(folder.path / "job.json", job)
    with EventWriter(folder.events_path) as events:
        for kind, seconds in moments:
            version = "M1" if kind == "finished" else None
            time = BEGAN + timedelta(seconds=seconds)
            events.append(Event(kind=kind, time=time, stage="prepare", text=text, version=version))  # type: ignore[arg-type]
    return job.id


def test_nothing_is_guessed_before_anything_was_measured(workspace: Workspace) -> None:
    assert estimate(workspace, "brain", BALANCED) == Estimate(steps=875)
    a_job(workspace, "balanced", ("started", 0), ("stage", 5), ("failed", 9))
    a_job(workspace, "balanced", ("started", 0), ("stage", 5), ("started", 500), ("stage", 505), ("finished", 900))
    assert estimate(workspace, "brain", BALANCED).seconds is None  # it failed; it was resumed


def test_a_job_of_another_version_with_other_settings_tells_nothing(workspace: Workspace) -> None:
    a_job(workspace, "balanced", ("started", 0), ("stage", 5), ("finished", 900), a_setting_of_old="one task")
    assert estimate(workspace, "brain", BALANCED).seconds is None
    a_job(workspace, "balanced", ("started", 0), ("stage", 5), ("finished", 900))
    assert estimate(workspace, "brain", BALANCED).seconds is not None


def test_the_same_again_takes_as_long_and_more_work_longer(workspace: Workspace) -> None:
    text = 'a text with "kind":"started" in it'
    job = a_job(workspace, "balanced", ("started", 0), ("stage", 10), ("finished", 110), text=text)
    found = estimate(workspace, "brain", BALANCED)
    assert (found.job, found.steps) == (job, 875)
    assert found.seconds == pytest.approx(110)
    quick, thorough = (adapt_settings(preset, {}) for preset in ("quick", "thorough"))
    units = {s: sum(size for _, size in next_adaptation(workspace, "brain", s)) for s in (quick, BALANCED, thorough)}
    for settings in (quick, thorough):
        expected = 10 + 100 * units[settings] / units[BALANCED]
        assert estimate(workspace, "brain", settings).seconds == pytest.approx(expected)
    assert units[quick] < units[BALANCED] < units[thorough]
