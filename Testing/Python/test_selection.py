"""Buffers: MDS with a real small model, its resumption and its shards, clusters, and what is recorded of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning_samples import TINY, Notes, ball_workspace
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError, JobError
from MedSeqFTLib.imaging.cache import Prepared, PreparedCase, write_prepared
from MedSeqFTLib.jobs.job import Job
from MedSeqFTLib.jobs.summary import selection_rows, stage_section
from MedSeqFTLib.learning.adaptation import run_adaptation
from MedSeqFTLib.learning.forecast import CROPS
from MedSeqFTLib.learning.preflight import check_adaptable
from MedSeqFTLib.learning.pretraining import PretextTraining
from MedSeqFTLib.learning.selection.buffer import LOSSES, rules_of, select_buffer
from MedSeqFTLib.learning.selection.features import FeatureReader, nearest_to_centres
from MedSeqFTLib.learning.selection.loss_file import LossFile
from MedSeqFTLib.learning.selection.racing import Race
from MedSeqFTLib.learning.selection.scoring import PretextScorer, passes_at_once, pretext_losses
from MedSeqFTLib.learning.selection.size import buffer_size
from MedSeqFTLib.learning.settings import AdaptSettings, PretrainSettings, adapt_settings
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription, ResidualUNetDescription
from MedSeqFTLib.workspace.schema import ModelVersion, Role, Selection, now
from MedSeqFTLib.workspace.workspace import Workspace

CPU = Compute(torch.device("cpu"), torch.float32)
SMALL = ResidualUNetDescription(channels=(4, 8), decoder_features=4)
PRETEXT = MaskedReconstructionDescription(block=4)
PATCH = (16, 16, 16)
SEED = 7


def prepared(folder: Path, image: np.ndarray) -> PreparedCase:
    folder.mkdir(parents=True)
    write_prepared(folder, Prepared(np.clip(image, 0, 4095).astype(np.int16)))
    return PreparedCase(folder)


def noisy_cases(folder: Path, noise: tuple[float, ...]) -> dict[str, PreparedCase]:
    """A smooth ramp with noise of these deviations: the pretext loss grows with the noise."""
    cases = {}
    for number, level in enumerate(noise):
        random = np.random.default_rng(number)
        ramp = np.linspace(500, 3500, 20)[:, None, None] + np.zeros((20, 20, 20))
        cases[f"case{number}"] = prepared(folder / str(number), ramp + level * random.normal(size=ramp.shape))
    return cases


def striped(folder: Path, axis: int, seed: int) -> PreparedCase:
    """Stripes across one axis, as high and as wide whatever the axis."""
    random = np.random.default_rng(seed)
    wave = 1500 * np.sin(2 * np.pi * (np.arange(24) / 8 + random.random()))
    shape = [24 if side == axis else 1 for side in range(3)]
    image = 2000 + wave.reshape(shape) + 100 * random.normal(size=(24, 24, 24))
    return prepared(folder / f"{axis}-{seed}", image)


class Counting(nn.Module):
    """A pretext objective that counts the samples it is asked for."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.inner, self.samples, self.broken = build_pretext(PRETEXT, SMALL, 0), 0, broken

    def forward(self, backbone: nn.Module, crops: Tensor, seeds: Any) -> Tensor:
        self.samples += len(crops)
        return self.inner(backbone, crops, seeds) * (float("nan") if self.broken else 1)


def scorer(pretext: nn.Module | None = None) -> PretextScorer:
    chosen: Any = pretext or build_pretext(PRETEXT, SMALL, 0)
    return PretextScorer(build_backbone(SMALL, 0), chosen, PRETEXT, SEED, PATCH, CPU)


def settings_of(**changes: object) -> AdaptSettings:
    return AdaptSettings.model_validate({**TINY, **changes})


def choose(
    cases: Mapping[str, PreparedCase],
    notes: Notes,
    pretext: nn.Module | None = None,
    identity: str = "same",
    **changes: object,
) -> Selection:
    settings = settings_of(**changes)
    reader = {
        "mds": lambda: scorer(pretext),
        "kmeans": lambda: FeatureReader(build_backbone(SMALL, 0), SEED, PATCH, CPU),
    }.get(settings.selection, lambda: None)()
    return select_buffer(cases, reader, settings, SEED, notes, identity)


def kept(selection: Selection) -> set[str]:
    return {score.case for score in selection.scores if score.kept}


# --- MDS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["racing", "fixed"])
def test_mds_keeps_the_cases_with_the_lowest_loss(tmp_path: Path, estimator: str) -> None:
    cases = noisy_cases(tmp_path, (900, 100, 1500, 300, 600))
    selection = choose(cases, Notes(tmp_path), selection_estimator=estimator, selection_passes=40)
    losses = [score.loss for score in selection.scores]
    assert losses == sorted(losses)  # type: ignore[type-var]
    assert kept(selection) == {"case1", "case3"}
    assert {score.reason for score in selection.scores} == {"decided in", "decided out"}
    assert {score.passes for score in selection.scores} == ({30} if estimator == "racing" else {40})
    for score in selection.scores:
        assert score.loss and score.interval and score.interval[0] < score.loss < score.interval[1]
    assert (selection.size, selection.passes, selection.seed, selection.pretext, selection.patch) == (
        *(2, 40, SEED, PRETEXT),
        PATCH,
    )
    assert selection.estimator is not None
    assert (selection.estimator.kind, selection.estimator.z) == (estimator, 2.5)
    assert selection.estimator.start == (30 if estimator == "racing" else 40)


@pytest.mark.parametrize("trained_on", [0, 2])
def test_cases_like_the_training_data_of_m0_rank_first(tmp_path: Path, trained_on: int) -> None:
    """Two textures that are equally hard; which half is kept depends on what M0 has learned and on nothing else."""
    settings = PretrainSettings(network=SMALL, pretext=PRETEXT, patch_side=16, steps=25, learning_rate=0.01)
    images = [striped(tmp_path / "seen", trained_on, seed) for seed in range(3)]
    training = PretextTraining([images], settings, 0, PATCH, CPU, Notes(tmp_path), "stripes")
    reader = PretextScorer(*training.foundation(), PRETEXT, SEED, PATCH, CPU)
    cases = {f"{axis}-{seed}": striped(tmp_path / "new", axis, 10 + seed) for seed in range(3) for axis in (0, 2)}
    rules = settings_of(buffer_size=3, selection_passes=100)
    selection = select_buffer(cases, reader, rules, SEED, Notes(tmp_path), "stripes")
    assert kept(selection) == {name for name in cases if name.startswith(str(trained_on))}
    assert {score.reason for score in selection.scores} == {"decided in", "decided out"}


def test_a_score_depends_on_no_other_case(tmp_path: Path) -> None:
    cases = noisy_cases(tmp_path, (900, 100, 1500))
    every = pretext_losses(cases, scorer(), range(12))
    assert every["case2"] == pretext_losses({"case2": cases["case2"]}, scorer(), range(12))["case2"]


def test_equal_images_get_equal_losses_in_every_pass(tmp_path: Path) -> None:
    """Common random numbers: crop and mask of a pass lie alike in every case, and differ between passes."""
    first, second = noisy_cases(tmp_path / "a", (500,)), noisy_cases(tmp_path / "b", (500,))
    losses = [pretext_losses(cases, scorer(), range(20))["case0"] for cases in (first, second)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 20


def test_shards_are_what_one_run_computes(tmp_path: Path) -> None:
    """Bit by bit, wherever cases and passes are cut; two workers with a barrier a round come to the same selection."""
    cases = noisy_cases(tmp_path, (500, 510, 520, 530, 900))
    whole = pretext_losses(cases, scorer(), range(33))
    for cut in (1, 5, 12, 32):
        parts = [pretext_losses({"case3": cases["case3"]}, scorer(), some) for some in (range(cut), range(cut, 33))]
        assert parts[0]["case3"] + parts[1]["case3"] == whole["case3"]
    race = Race(list(cases), rules_of(settings_of(selection_passes=33), 2, scorer().at_once))
    while race.undecided:
        shards = [{name: cases[name] for name in race.undecided[worker::2]} for worker in (1, 0)]
        found = [pretext_losses(shard, scorer(), race.passes) for shard in shards]
        race.close_round({**found[0], **found[1]})
    selection = choose(cases, Notes(tmp_path), selection_passes=33)
    assert len({score.passes for score in selection.scores}) > 1, "otherwise no barrier is tested"
    for score in selection.scores:
        verdict = race.verdicts[score.case]
        assert (score.loss, score.kept, score.reason) == (verdict.mean, verdict.kept, verdict.reason)


@pytest.mark.parametrize("method", ["mds", "kmeans"])
def test_how_many_crops_are_computed_at_once_changes_no_choice(tmp_path: Path, method: str) -> None:
    cases = noisy_cases(tmp_path, (500, 700, 900, 1100))
    reader = scorer() if method == "mds" else FeatureReader(build_backbone(SMALL, 0), SEED, PATCH, CPU)
    settings, together, singly = settings_of(selection=method, selection_passes=33), tmp_path / "a", tmp_path / "b"
    for folder in (together, singly):
        folder.mkdir()
    usual = select_buffer(cases, reader, settings, SEED, Notes(together), "same")
    other = select_buffer(cases, replace(reader, one_by_one=True), settings, SEED, Notes(singly), "same")
    for one, two in zip(usual.scores, other.scores, strict=True):
        assert (one.case, one.passes, one.kept, one.reason) == (two.case, two.passes, two.kept, two.reason)
        assert one.loss == (None if method == "kmeans" else pytest.approx(two.loss, rel=1e-5))


def test_large_crops_are_computed_one_by_one() -> None:
    assert passes_at_once((96, 96, 96)) > passes_at_once((64, 192, 192)) == 1


def test_a_loss_that_is_no_number_is_named(tmp_path: Path) -> None:
    cases = noisy_cases(tmp_path, (500, 600))
    with pytest.raises(JobError, match="pretext loss of case case0 is nan in pass 0"):
        choose(cases, Notes(tmp_path), Counting(broken=True))


# --- progress and resumption ----------------------------------------------------------------------------------------


class Stages(Notes):
    """Also remembers the size of the stage."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        super().stage(name, total, done)
        self.total = total


NEAR = (500, 505, 510, 515, 900)


def test_progress_grows_and_ends_at_the_total(tmp_path: Path) -> None:
    notes = Stages(tmp_path)
    choose(noisy_cases(tmp_path, NEAR), notes, selection_passes=60)
    assert notes.total == 300
    assert notes.steps == sorted(notes.steps)
    assert notes.steps[-1] == notes.total
    assert len(notes.steps) > 20
    assert any("passes of at most 300" in text for text in notes.messages)


def test_a_killed_selection_goes_on_without_repeating_a_pass(tmp_path: Path) -> None:
    """Killed between lines, in the middle of one, and with a line that does not belong there."""
    left_behind = ["", '{"case":"case0","first":10,"los', '{"case":"case0","first":99,"losses":[1]}\n']
    cases = noisy_cases(tmp_path, NEAR)
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, pretext, unbroken = Counting(), Counting(), Notes(tmp_path / "whole")
    expected = choose(cases, unbroken, whole, selection_passes=40)
    for kill, torn in zip(unbroken.steps[2:17:7], left_behind, strict=True):
        with pytest.raises(KeyboardInterrupt):
            choose(cases, Notes(tmp_path / "killed", stop_at=kill), pretext, selection_passes=40)
        with (tmp_path / "killed" / LOSSES).open("a") as file:
            file.write(torn)
    notes = Stages(tmp_path / "killed")
    assert choose(cases, notes, pretext, selection_passes=40) == expected
    assert 0 < notes.first < notes.total
    assert notes.steps == sorted(notes.steps)
    assert pretext.samples == whole.samples
    again = Counting()
    assert choose(cases, Notes(tmp_path / "killed"), again, selection_passes=40) == expected
    assert again.samples == 0


def test_losses_of_other_data_are_not_taken_up(tmp_path: Path) -> None:
    cases = noisy_cases(tmp_path, (500, 600, 700))
    first, second, notes = Counting(), Counting(), Notes(tmp_path)
    choose(cases, Notes(tmp_path), first, identity="before")
    choose(cases, notes, second, identity="after")
    assert second.samples == first.samples > 0
    assert "MDS selection starts again: data or settings changed" in notes.warnings[0]
    head, *pieces = (tmp_path / LOSSES).read_text().splitlines()
    assert json.loads(head) == {"identity": "after"}
    assert sum(len(json.loads(piece)["losses"]) for piece in pieces) == 12


def test_losses_survive_the_disk_to_the_last_bit(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).normal(size=50).tolist()
    LossFile(tmp_path / "f", "a").append("case", losses)
    assert LossFile(tmp_path / "f", "a").of("case") == losses
    assert LossFile(tmp_path / "f", "a").of("other") == []


# --- other selections -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "size", "reasons"),
    [
        ("none", 0, {"none"}),
        ("all", 5, {"all"}),
        ("random", 2, {"random"}),
        ("kmeans", 2, {"cluster centre", "cluster member"}),
    ],
)
def test_other_selections(tmp_path: Path, method: str, size: int, reasons: set[str]) -> None:
    selection = choose(noisy_cases(tmp_path, (1, 2, 3, 4, 5)), Notes(tmp_path), selection=method)
    assert len(kept(selection)) == selection.size == size
    assert len(selection.scores) == 5
    assert all(score.loss is None and not score.in_tie_zone for score in selection.scores)
    assert {score.reason for score in selection.scores} == reasons
    assert selection.estimator is selection.pretext is None


def test_a_method_that_needs_a_model_is_not_replaced_by_chance(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'mds' needs a model"):
        select_buffer({}, None, settings_of(), SEED, Notes(tmp_path), "same")


def test_clusters_keep_one_case_of_each_kind(tmp_path: Path) -> None:
    cases = {f"{axis}-{seed}": striped(tmp_path, axis, seed) for axis in range(3) for seed in range(3)}
    first = choose(cases, Notes(tmp_path), selection="kmeans", buffer_size=3)
    assert {name[0] for name in kept(first)} == {"0", "1", "2"}
    assert {score.passes for score in first.scores} == {CROPS} == {first.passes}
    assert choose(cases, Notes(tmp_path), selection="kmeans", buffer_size=3) == first


def test_centres_are_distinct_and_the_same_every_time() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(30, 6)) * [1, 10, 100, 1, 1, 0]
    for count in (1, 7, 30):
        chosen = nearest_to_centres(features, count, 2**40)
        assert len(set(chosen)) == count
        assert chosen == nearest_to_centres(features, count, 2**40)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_equal_cases_still_give_as_many_as_are_wanted() -> None:
    assert len(set(nearest_to_centres(np.ones((6, 2)), 4, 0))) == 4


# --- how many -------------------------------------------------------------------------------------------------------


def test_the_size_of_a_buffer() -> None:
    settings = AdaptSettings()
    assert [buffer_size(cases, settings) for cases in (1, 5, 20, 21, 100)] == [1, 2, 2, 3, 10]
    assert buffer_size(20, AdaptSettings(buffer_size=7)) == 7
    assert buffer_size(20, AdaptSettings(buffer_size=30, selection="all")) == 20


@pytest.mark.parametrize("method", ["mds", "mds-substitute", "kmeans", "random"])
def test_more_cases_than_there_are_cannot_be_kept(tmp_path: Path, method: str) -> None:
    workspace = ball_workspace(tmp_path, train=3)
    check_adaptable(workspace, "balls", settings_of(buffer_size=3, selection=method))
    with pytest.raises(InputError, match="buffer_size is 4, but the task has only 3 training cases: set at most 3"):
        check_adaptable(workspace, "balls", settings_of(buffer_size=4, selection=method))


# --- in an adaptation -----------------------------------------------------------------------------------------------


def adapted(workspace: Workspace, folder: Path, **changes: str) -> ModelVersion:
    settings: Any = adapt_settings("quick", {**TINY, **changes}).model_dump(mode="json")
    job = Job(id="adapt-1", kind="adapt", created=now(), task="balls", settings=settings, seed=0)
    return workspace.version(run_adaptation(workspace, job, Notes(folder)))


def test_an_adaptation_with_clusters_needs_no_pretext_head(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path)
    version = adapted(workspace, tmp_path, selection="kmeans", buffer_size="2", stage_a_steps="1", stage_b_steps="1")
    assert version.selection is not None
    assert (version.selection.method, len(version.buffers["balls"])) == ("kmeans", 2)
    assert version.selection.conditions is not None
    assert {case.id for case in workspace.cases("balls", Role.TRAIN)} > set(version.buffers["balls"])


# --- in a report ----------------------------------------------------------------------------------------------------


def version_of(selection: Selection) -> ModelVersion:
    return ModelVersion(
        id="M1", kind="adapted", parent="M0", task="t", job=None, network=SMALL, selection=selection, files={}
    )


def test_a_report_tells_how_each_case_was_decided(tmp_path: Path) -> None:
    selection = choose(noisy_cases(tmp_path, NEAR), Notes(tmp_path), selection_passes=30, selection_z=2.5)
    section = stage_section(Workspace.create(tmp_path / "workspace"), version_of(selection))
    used = sum(score.passes for score in selection.scores)
    assert "at most 30 passes; a case stopped as soon as it was 2.5 standard errors clear" in section.buffer_text
    assert f"took {used} of 150 passes" in section.buffer_text
    for row, score in zip(section.buffer, selection.scores, strict=True):
        assert (row.case, row.reason, row.interval) == (score.case, score.reason, score.interval)
        assert row.tie == score.reason.startswith("tie zone")
    assert {row.tie for row in section.buffer} == {True, False}


def test_selections_of_older_programs_can_be_read() -> None:
    score = {"case": "a", "loss": 0.5, "standard_error": 0.01, "passes": 24, "kept": True}
    text = {"method": "mds", "size": 1, "passes": 24, "pretext": PRETEXT.model_dump(), "patch": [16, 16, 16]}
    chosen = Selection.model_validate_json(json.dumps({**text, "seed": 0, "scores": [score]}))
    assert (chosen.estimator, chosen.conditions, chosen.scores[0].reason) == (None, None, "")
    (row,) = selection_rows(version_of(chosen))
    assert row.interval == pytest.approx((0.4804, 0.5196))
    assert not row.tie
