"""Losses, the training loop and the decision about promotion, in the test's own process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from learning_samples import Notes, ball_workspace
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError, JobError, WorkspaceError
from MedSeqFTLib.learning.losses import segmentation_loss, with_unknown_as_background
from MedSeqFTLib.learning.preflight import check_adaptable
from MedSeqFTLib.learning.promotion import judge
from MedSeqFTLib.learning.retention import feature_distance
from MedSeqFTLib.learning.settings import PRESETS, AdaptSettings, adapt_settings
from MedSeqFTLib.learning.training import Training
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.workspace.networks import ResidualUNetDescription
from MedSeqFTLib.workspace.schema import CaseScore, ModelVersion, TaskScores

CPU = Compute(torch.device("cpu"), torch.float32)
SMALL = ResidualUNetDescription(channels=(4, 8), decoder_features=4)


def training(
    reporter: Notes, net: nn.Module, checkpoint_seconds: float = 0.0, identity: str = "same", steps: int = 12
) -> Training:
    def losses(step: int) -> dict[str, Tensor]:
        torch.manual_seed(step)
        return {"fit": (net(torch.randn(4, 3)) - 1).square().mean(), "noise": torch.rand(()) * 0}

    return Training(
        "a stage",
        {"net": net},
        losses,
        steps=steps,
        learning_rate=0.05,
        weight_decay=0.01,
        compute=CPU,
        reporter=reporter,
        checkpoint_seconds=checkpoint_seconds,
        identity=identity,
    )


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = linear()
    (tmp_path / "a").mkdir()
    training(Notes(tmp_path / "a"), whole, checkpoint_seconds=1e9).run()
    (tmp_path / "b").mkdir()
    with pytest.raises(KeyboardInterrupt):
        training(Notes(tmp_path / "b", stop_at=5), linear()).run()
    resumed, reporter = linear(), Notes(tmp_path / "b")
    training(reporter, resumed).run()
    assert reporter.first == 5
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(whole.parameters(), linear().parameters(), strict=True))


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 11, 20])
def test_any_number_of_steps_can_be_trained(tmp_path: Path, steps: int) -> None:
    reporter = Notes(tmp_path)
    training(reporter, linear(), checkpoint_seconds=1e9, steps=steps).run()
    assert reporter.steps == list(range(1, steps + 1))


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    training(Notes(tmp_path), linear()).run()
    reporter = Notes(tmp_path)
    training(reporter, linear()).run()
    assert (reporter.first, reporter.steps) == (12, [])


def test_a_checkpoint_of_other_data_is_not_taken_up(tmp_path: Path) -> None:
    training(Notes(tmp_path), linear()).run()
    reporter = Notes(tmp_path)
    training(reporter, linear(), identity="other").run()
    assert reporter.first == 0
    assert "starts again" in reporter.warnings[0]


@pytest.mark.parametrize("way", ["cut off", "one number changed, which torch would read without a word"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, way: str) -> None:
    module = linear()
    training(Notes(tmp_path), module).run()
    path = tmp_path / "checkpoints" / "a-stage.pt"
    whole, weights = path.read_bytes(), module.weight.detach().numpy().tobytes()
    assert weights in whole
    path.write_bytes(whole[:200] if way == "cut off" else whole.replace(weights, weights[::-1]))
    with pytest.raises(WorkspaceError, match=r"a-stage\.pt is damaged"):
        training(Notes(tmp_path), linear()).run()


def test_a_checkpoint_never_runs_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("code ran",)

    path = tmp_path / "checkpoints" / "a-stage.pt"
    path.parent.mkdir()
    torch.save({"identity": Evil()}, path)
    with pytest.raises(WorkspaceError, match="is damaged"):
        training(Notes(tmp_path), linear()).run()


def test_an_unusable_loss_ends_the_training_with_its_values(tmp_path: Path) -> None:
    net = linear()
    stage = training(Notes(tmp_path), net)
    with torch.no_grad():
        net.weight.fill_(float("inf"))
    with pytest.raises(
        JobError, match=r"became unusable at step 1 \(fit (inf|nan), noise 0\); lower the learning rate"
    ):
        stage.run()


def test_an_unknown_structure_is_not_background() -> None:
    """A voxel without label: finding the unknown class there costs nothing, finding a known one does."""
    loss = segmentation_loss()
    labels = torch.zeros((1, 1, 4, 4, 4), dtype=torch.uint8)
    labels[..., :2] = 1
    logits = torch.full((1, 3, 4, 4, 4), -8.0)
    logits[:, 1][labels[:, 0] == 1] = 8
    background, other = logits.clone(), logits.clone()
    background[:, 0][labels[:, 0] == 0] = 8
    other[:, 2][labels[:, 0] == 0] = 8
    unknown = torch.tensor([[True, True, False]])
    all_known = torch.ones_like(unknown)
    costs = [
        float(loss(with_unknown_as_background(answer, known), labels))
        for answer in (background, other)
        for known in (all_known, unknown)
    ]
    background_known, background_unknown, other_known, other_unknown = costs
    assert background_known < 0.3
    assert other_known > 5
    assert background_unknown == pytest.approx(other_unknown, abs=1e-3) == pytest.approx(0, abs=1e-3)


def test_the_feature_distance_weighs_channels_by_their_deviation() -> None:
    quiet, loud = torch.randn(2, 1, 4, 4, 4), 100 * torch.randn(2, 1, 4, 4, 4)
    teacher = [torch.cat([quiet, loud], 1)]
    moved = [[torch.cat([q, b], 1)] for q, b in ((quiet + 1, loud), (quiet, loud + 100))]
    first, second = (float(feature_distance(student, teacher)) for student in moved)
    assert feature_distance(teacher, teacher) == 0
    assert first == pytest.approx(second, rel=0.4)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset: str) -> None:
    assert adapt_settings(preset, {"lora_rank": "4"}).lora_rank == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": "0"}, "field lora_rank"),
        ({"lora_rnak": "4"}, "field lora_rnak"),
        ({"device": "gpu"}, "field device"),
        ({"patch_side": "40"}, "field patch_side"),
        ({"selection_z": "-1"}, "field selection_z"),
    ],
)
def test_unusable_settings_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapt_settings("quick", changes)


def scores(version: str, values: list[float | None]) -> TaskScores:
    cases = tuple(CaseScore(case=f"c{number}", dice={"ball": value}) for number, value in enumerate(values))
    return TaskScores(task="balls", reading="per-task", version=version, cases=cases, mean_dice=None)


def candidate(*measured: TaskScores) -> ModelVersion:
    return ModelVersion(
        id="M2", kind="adapted", parent="M1", task="balls", job=None, network=SMALL, scores=measured, files={}
    )


@pytest.mark.parametrize(
    ("before", "after", "promote", "said"),
    [
        ([0.8, 0.6, 0.7], [0.81, 0.62, 0.73], True, "better"),
        ([0.8, 0.6, 0.7], [0.8, 0.6, 0.7], False, "no worse within the margin"),
        ([0.8, 0.6, 0.7], [0.7, 0.5, 0.65], False, "worse"),
        ([0.8], [0.9], False, "not enough evidence"),
        ([None], [0.9], False, "no held-out case"),
        (None, [0.9], False, "no held-out case"),
    ],
)
def test_only_a_version_that_is_shown_to_be_better_is_promoted(
    before: list[float | None] | None, after: list[float | None], promote: bool, said: str
) -> None:
    measured = [scores("M2", after)] + ([scores("M1", before)] if before is not None else [])
    found = judge(candidate(*measured), current="M1")
    assert found.good is promote
    assert said in found.sentence
    assert "M1" in found.sentence


def test_the_first_version_is_promoted() -> None:
    found = judge(candidate(), current=None)
    assert (found.good, str(found)) == (True, "first version of balls, no held-out case to measure it on.")


def test_an_adaptation_needs_a_new_case(tmp_path: Path) -> None:
    workspace = ball_workspace(tmp_path, train=0)
    with pytest.raises(InputError, match="has no training case"):
        check_adaptable(workspace, "balls", AdaptSettings())
    with pytest.raises(InputError, match="no task 'livers'"):
        check_adaptable(workspace, "livers", AdaptSettings())


def test_mds_needs_a_pretext_head(tmp_path: Path) -> None:
    """A supervised model is not scored with a random head: the user chooses a substitute or another selection."""
    workspace = ball_workspace(tmp_path, train=1)
    with workspace.staging() as folder:
        version = ModelVersion(
            id="M0", kind="foundation", parent=None, task=None, job=None, network=SMALL, pretext=None, files={}
        )
        workspace.publish(version, folder)
    with pytest.raises(InputError, match=r"M0 has no pretext head.*selection=mds-substitute"):
        check_adaptable(workspace, "balls", AdaptSettings())
    for other in ("mds-substitute", "kmeans", "random", "all", "none"):
        check_adaptable(workspace, "balls", AdaptSettings.model_validate({"selection": other}))
