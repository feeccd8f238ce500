"""Each strategy does what its name promises, and differs from plain fine-tuning just there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from learning_samples import TINY
from safetensors.torch import load_file
from strategy_samples import CPU, FIRST, SECOND, SMALL, beside, chain, context, stage, two_tasks
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError, JobError
from MedSeqFTLib.imaging.cache import PreparedCase
from MedSeqFTLib.learning.data import PreparedData
from MedSeqFTLib.learning.forecast import expected_stages
from MedSeqFTLib.learning.losses import TaskLoss, affordable, every, in_turn
from MedSeqFTLib.learning.memory import learn_in_memory
from MedSeqFTLib.learning.retention import Teacher
from MedSeqFTLib.learning.selection.choice import with_chosen_buffer
from MedSeqFTLib.learning.settings import AdaptSettings, StrategySettings
from MedSeqFTLib.learning.stages import Context, first_head, own_model, parent_backbone, task_sampler
from MedSeqFTLib.learning.strategies.base import Learned, Strategy
from MedSeqFTLib.learning.strategies.ewc import IMPORTANCE
from MedSeqFTLib.learning.strategies.multi_task import mixed
from MedSeqFTLib.learning.strategies.names import STRATEGIES
from MedSeqFTLib.learning.strategies.registry import REGISTRY
from MedSeqFTLib.learning.training import Losses
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.lora import attach_lora, merge, start_like
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext.base import Seed
from MedSeqFTLib.models.pretext.masked import MaskedReconstruction
from MedSeqFTLib.models.weights import BACKBONE, TASK_BACKBONE, chain_head, load_backbone, load_head
from MedSeqFTLib.workspace.schema import Case, ModelVersion, Role, TaskPlan
from MedSeqFTLib.workspace.workspace import Workspace


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two tasks, M0, and M1 that MedSeqFT made of the first."""
    folder = tmp_path_factory.mktemp("template")
    workspace = two_tasks(folder)
    stage("medseqft", context(workspace, folder / "first", FIRST, workspace.version("M0")))
    return workspace.folder


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    """A copy of the template for one test."""
    return Workspace.open(shutil.copytree(template, tmp_path / "workspace"))


def tensors(workspace: Workspace, version: ModelVersion, file: str = BACKBONE) -> dict[str, Tensor]:
    return load_file(workspace.version_folder(version.id) / file)


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return sum(float((one[name] - other[name]).square().sum()) for name in one) ** 0.5


def ranks(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, int]:
    """Rank of the change of every convolution's weight, as a matrix of outputs by everything else."""
    found = {}
    for name, module in build_backbone(SMALL, 0).named_modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            change = after[f"{name}.weight"] - before[f"{name}.weight"]
            outputs_first = change.transpose(0, 1) if isinstance(module, nn.ConvTranspose3d) else change
            found[name] = int(torch.linalg.matrix_rank(outputs_first.flatten(1), rtol=1e-4))
    return found


def answers(workspace: Workspace, version: ModelVersion, task: str, image: Tensor) -> Tensor:
    head = load_head(workspace, version, chain_head(task), version.plans[task])
    with torch.no_grad():
        return head(load_backbone(workspace, version)(image)).softmax(1)


def test_names_and_strategies_agree() -> None:
    assert list(STRATEGIES) == list(REGISTRY)
    for strategy in REGISTRY.values():
        assert strategy.description.endswith(".") and strategy.keeps


def test_fine_tuning_of_m0_is_the_same_in_parallel_and_in_sequence(tmp_path: Path, workspace: Workspace) -> None:
    start = context(workspace, tmp_path / "a", FIRST, workspace.version("M0"))
    versions = [stage(kind, start)[0] for kind in ("parallel", "sequential", "lwf")]
    assert len({version.files[BACKBONE] for version in versions}) == 1


class Noting(StrategySettings):
    """Settings that tell which of them were read."""

    def __getattribute__(self, name: str) -> object:
        if name in StrategySettings.model_fields:
            READ.add(name)
        return super().__getattribute__(name)


READ: set[str] = set()
NEVER_IN_RESULTS = {"device", "threads", "checkpoint_seconds", "foundation"}


@pytest.mark.parametrize("kind", list(REGISTRY))
def test_a_result_depends_on_no_setting_but_the_declared_ones(tmp_path: Path, workspace: Workspace, kind: str) -> None:
    """Otherwise a benchmark would take a result for another one."""
    strategy = REGISTRY[kind]
    parent = workspace.version("M0" if strategy.begins_with == "foundation model" or kind == "ewc" else "M1")
    start = context(workspace, tmp_path / "a", SECOND, parent)
    start = replace(start, settings=Noting(**start.settings.model_dump()))
    READ.clear()
    if strategy.keeps_cases:
        start, _ = with_chosen_buffer(start)
    strategy.learn(start, tmp_path)
    assert strategy.depends_on >= READ - NEVER_IN_RESULTS


def test_sequential_fine_tuning_goes_on_where_it_was_and_keeps_old_heads(tmp_path: Path, workspace: Workspace) -> None:
    before, after, learned = chain(workspace, tmp_path, "sequential", stage_a_learning_rate=1e-6)
    close = distance(tensors(workspace, before), tensors(workspace, after))
    assert close < 0.01 < distance(tensors(workspace, workspace.version("M0")), tensors(workspace, after)) + 0.02
    assert set(learned.chain.heads) == {FIRST, SECOND}
    assert before.files[chain_head(FIRST)] == after.files[chain_head(FIRST)]
    assert after.files[BACKBONE] == after.files[TASK_BACKBONE]


def test_lwf_holds_the_old_answers_on_new_images(tmp_path: Path, workspace: Workspace) -> None:
    image = task_sampler(context(workspace, tmp_path / "look", SECOND, workspace.version("M0"))).batch(50).image
    moved = {}
    for weight in (0.0, 100.0):
        before, after, _ = chain(workspace, tmp_path / str(weight), "lwf", lwf_weight=weight)
        difference = answers(workspace, after, FIRST, image) - answers(workspace, before, FIRST, image)
        moved[weight] = float(difference.abs().mean())
    assert moved[100.0] < 0.5 * moved[0.0]


def test_ewc_stores_mean_squared_gradients_and_holds_important_weights(tmp_path: Path, workspace: Workspace) -> None:
    moved = {}
    for weight in (0.0, 1e4):
        before, after, _ = chain(workspace, tmp_path / str(weight), "ewc", ewc_weight=weight)
        importance = tensors(workspace, before, IMPORTANCE)
        old, new = tensors(workspace, before), tensors(workspace, after)
        moved[weight] = sum(float((importance[name] * (new[name] - old[name]).square()).sum()) for name in importance)
        every_value = torch.cat([value.flatten() for value in importance.values()])
        assert float(every_value.mean()) == pytest.approx(1, rel=1e-3)
        assert bool((every_value >= 0).all())
        later = tensors(workspace, after, IMPORTANCE)
        assert all(bool((later[name] >= importance[name] - 1e-6).all()) for name in importance), "it is summed up"
    assert moved[1e4] < 0.05 * moved[0.0]


def test_replay_trains_on_the_stored_cases_alone(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = stage("replay", context(workspace, tmp_path / "first", FIRST, workspace.version("M0")))
    kept = before.buffers[FIRST]
    start = context(workspace, tmp_path / "second", SECOND, before)
    read: list[str] = []
    original = PreparedData.cases

    def noting(self: PreparedData, cases: Sequence[Case], plan: TaskPlan) -> list[PreparedCase]:
        read.extend(case.id for case in cases)
        return original(self, cases, plan)

    monkeypatch.setattr(PreparedData, "cases", noting)
    after, learned = stage("replay", start)
    assert tuple(read) == kept
    assert len(kept) == 2 < len(workspace.cases(FIRST, Role.TRAIN))
    assert after.buffers == {FIRST: kept, SECOND: after.buffers[SECOND]}
    assert before.files[chain_head(FIRST)] != after.files[chain_head(FIRST)], "the old head is trained along"
    naive = stage("sequential", context(workspace, tmp_path / "naive", SECOND, before))[1]
    loss = TaskLoss(learned.chain.backbone, learned.chain.heads[FIRST], task_sampler(old_task(start)), CPU)
    forgotten = TaskLoss(naive.chain.backbone, naive.chain.heads[FIRST], task_sampler(old_task(start)), CPU)
    assert total(loss) < total(forgotten), "what was replayed is forgotten less"


def old_task(start: Context) -> Context:
    """The kept cases of the first task as a stage's data."""
    kept = [case for case in start.workspace.cases(FIRST, Role.TRAIN) if case.id in start.parent.buffers[FIRST]]
    plan = start.parent.plans[FIRST]
    prepared = PreparedData(start.workspace).cases(kept, plan)
    return replace(start, task=FIRST, plan=plan, train=kept, prepared=prepared)


def total(loss: TaskLoss) -> float:
    with torch.no_grad():
        return sum(float(value) for step in range(4) for value in loss(step).values())


def test_lora_alone_is_a_low_rank_change_of_m0_for_each_task(tmp_path: Path, workspace: Workspace) -> None:
    _, after, _ = chain(workspace, tmp_path, "lora")
    found = ranks(tensors(workspace, workspace.version("M0")), tensors(workspace, after))
    assert max(found.values()) == 2
    assert min(found.values()) >= 1
    assert after.parent == "M0"
    assert set(after.plans) == {SECOND}
    assert "adapter/adapter_model.safetensors" in after.files


def test_a_linear_probe_leaves_the_foundation_model_alone(tmp_path: Path, workspace: Workspace) -> None:
    _, after, learned = chain(workspace, tmp_path, "linear-probe")
    assert distance(tensors(workspace, workspace.version("M0")), tensors(workspace, after)) == 0
    fresh = context(workspace, tmp_path / "look", SECOND, workspace.version("M0"))
    assert not torch.equal(learned.task_model.head.classify.weight, first_head(fresh).classify.weight)


def test_multi_task_learns_every_task_for_its_own_steps(tmp_path: Path, workspace: Workspace) -> None:
    foundation = workspace.version("M0")
    one = context(workspace, tmp_path / "both", SECOND, foundation)
    version, learned = stage("multi-task", beside(one, context(workspace, tmp_path / "both", FIRST, foundation)))
    assert set(version.plans) == set(learned.chain.heads) == {FIRST, SECOND}
    assert version.files[BACKBONE] == version.files[TASK_BACKBONE]
    assert one.reporter.steps[-1] == 12  # type: ignore[attr-defined]
    for task in (FIRST, SECOND):
        fresh = first_head(context(workspace, tmp_path / "look", task, foundation))
        assert not torch.equal(learned.chain.heads[task].classify.weight, fresh.classify.weight)


def test_tasks_are_mixed_in_proportion_to_their_steps() -> None:
    seen: list[tuple[str, int]] = []
    losses = mixed([counted("a", seen), counted("b", seen)], [3, 5], seed=0)
    for step in range(8):
        losses(step)
    assert [step for name, step in seen if name == "a"] == [0, 1, 2]
    assert [step for name, step in seen if name == "b"] == [0, 1, 2, 3, 4]
    assert seen != sorted(seen)


def test_medseqft_hands_on_a_low_rank_change_and_serves_a_full_one(tmp_path: Path, workspace: Workspace) -> None:
    after, learned = stage("medseqft", context(workspace, tmp_path / "a", SECOND, workspace.version("M1")))
    parent = tensors(workspace, workspace.version("M1"))
    handed_on = ranks(parent, tensors(workspace, after))
    served = ranks(parent, tensors(workspace, after, TASK_BACKBONE))
    assert max(handed_on.values()) == 2
    assert max(served.values()) > 2
    assert set(learned.chain.heads) == {FIRST, SECOND}
    assert set(after.buffers) == {FIRST, SECOND}


def test_stage_a_holds_features_near_the_teacher(tmp_path: Path, workspace: Workspace) -> None:
    moved = {}
    for weight in (0.0, 100.0):
        start = context(workspace, tmp_path / str(weight), SECOND, workspace.version("M0"), feature_weight=weight)
        after, _ = stage("medseqft", start)
        moved[weight] = distance(tensors(workspace, workspace.version("M0")), tensors(workspace, after, TASK_BACKBONE))
    assert moved[100.0] < moved[0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"stage_a_teacher": "foundation"},
        {"stage_a_teacher": "none"},
        {"stage_b_start": "nothing"},
        {"stage_b_data": "task"},
        {"stage_b_data": "buffers"},
        {"buffers": "this task"},
        {"distil": "features"},
        {"distil": "logits"},
        {"distil_earlier_tasks": False},
        {"earlier_teacher": "parent"},
        {"earlier_volume": 0.5},
        {"stage_b_base": "foundation"},
        {"stage_b_bank": 2},
        {"lora_rank": 1},
        {"selection": "all"},
        {"feature_interval": 3},
    ],
    ids=lambda changes: "-".join(f"{name}-{value}" for name, value in changes.items()),
)
def test_every_switch_changes_what_is_handed_on(
    tmp_path: Path, workspace: Workspace, changes: dict[str, object], by_default: ModelVersion
) -> None:
    after, _ = stage("medseqft", context(workspace, tmp_path / "a", SECOND, workspace.version("M1"), **changes))
    assert after.files[BACKBONE] != by_default.files[BACKBONE]
    for name, value in changes.items():
        assert after.settings[name] == value


@pytest.fixture(scope="module")
def by_default(template: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    folder = tmp_path_factory.mktemp("default")
    workspace = Workspace.open(shutil.copytree(template, folder / "workspace"))
    return stage("medseqft", context(workspace, folder / "a", SECOND, workspace.version("M1")))[0]


def test_what_the_chain_forgot_comes_back_from_the_tasks_own_model(tmp_path: Path, workspace: Workspace) -> None:
    """M2 forgot the first task; only F_1 can still teach it to M3."""
    image = task_sampler(context(workspace, tmp_path / "image", FIRST, workspace.version("M0"))).batch(0).image
    own, head = own_model(context(workspace, tmp_path / "look", SECOND, workspace.version("M1")), FIRST)
    wanted = head(own(image)).softmax(1)

    forgetful, _ = stage(
        "medseqft", context(workspace, tmp_path / "m2", SECOND, workspace.version("M1"), distil_earlier_tasks=False)
    )

    def missed(teacher: str) -> float:
        steps = {"stage_b_steps": 40, "stage_b_learning_rate": 2e-2, "lora_rank": 4}
        start = context(workspace, tmp_path / teacher, SECOND, forgetful, earlier_teacher=teacher, **steps)
        after, _ = stage("medseqft", start)
        return float((answers(workspace, after, FIRST, image) - wanted).abs().mean())

    assert missed("own models") < 0.7 * missed("parent")


def test_the_own_model_of_an_earlier_task_is_the_newest_of_the_lineage(tmp_path: Path, workspace: Workspace) -> None:
    again, _ = stage("medseqft", context(workspace, tmp_path / "a", FIRST, workspace.version("M1")))
    aside, _ = stage("medseqft", context(workspace, tmp_path / "b", FIRST, workspace.version("M1"), stage_a_steps=3))
    second, _ = stage("medseqft", context(workspace, tmp_path / "c", SECOND, again))
    found, _ = own_model(context(workspace, tmp_path / "d", SECOND, second), FIRST)
    stored = {version.id: tensors(workspace, version, TASK_BACKBONE) for version in (again, aside)}
    assert all(torch.equal(value, stored[again.id][name]) for name, value in found.state_dict().items())
    assert any(not torch.equal(value, stored[aside.id][name]) for name, value in found.state_dict().items())


def test_the_task_can_be_served_by_the_model_that_is_handed_on(tmp_path: Path, workspace: Workspace) -> None:
    start = context(workspace, tmp_path / "a", SECOND, workspace.version("M1"), served_by="stage B")
    after, learned = stage("medseqft", start)
    assert after.files[BACKBONE] == after.files[TASK_BACKBONE]
    assert learned.task_model.head is learned.chain.heads[SECOND]


def test_buffers_of_this_task_alone_keep_no_earlier_case(tmp_path: Path, workspace: Workspace) -> None:
    start = context(workspace, tmp_path / "a", SECOND, workspace.version("M1"), buffers="this task")
    after, _ = stage("medseqft", start)
    assert set(after.buffers) == {SECOND}


def test_adapters_on_m0_are_trained_on_from_stage_to_stage(tmp_path: Path, workspace: Workspace) -> None:
    before = workspace.version("M1")
    start = context(
        workspace,
        tmp_path / "a",
        SECOND,
        before,
        stage_b_base="foundation",
        stage_b_start="nothing",
        stage_b_learning_rate=1e-7,
    )
    after, _ = stage("medseqft", start)
    m0, first, second = (tensors(workspace, v) for v in (workspace.version("M0"), before, after))
    assert max(ranks(m0, second).values()) == 2, "the whole change stays of one rank"
    assert distance(first, second) < 0.2 * distance(m0, first) + 1e-5


def test_an_adapter_of_another_rank_is_not_trained_on(tmp_path: Path, workspace: Workspace) -> None:
    before = workspace.version("M1")
    other = context(
        workspace, tmp_path / "b", SECOND, before, stage_b_base="foundation", stage_b_start="nothing", lora_rank=1
    )
    with pytest.raises(InputError, match="has r 2, but 1 is needed"):
        stage("medseqft", other)


def test_a_bank_of_targets_changes_nothing_but_the_number_of_batches(tmp_path: Path, workspace: Workspace) -> None:
    """With as many batches as steps the bank holds each target for one use: the very same training."""
    without, _ = stage("medseqft", context(workspace, tmp_path / "a", FIRST, workspace.version("M0")))
    banked, _ = stage("medseqft", context(workspace, tmp_path / "b", FIRST, workspace.version("M0"), stage_b_bank=6))
    assert without.files[BACKBONE] == banked.files[BACKBONE]


def test_a_kept_target_is_what_the_teacher_would_say_again(tmp_path: Path, workspace: Workspace) -> None:
    start = context(workspace, tmp_path, FIRST, workspace.version("M0"))
    backbone, head = parent_backbone(start).eval(), first_head(start).eval()
    kept, fresh = (Teacher(backbone, head, task_sampler(start), CPU, bank) for bank in (2, 0))
    kept.target(1)
    again, anew = kept.target(3), fresh.target(1)
    assert again is kept.target(1)
    assert torch.equal(again.probabilities, anew.probabilities)
    assert all(torch.equal(a, b) for a, b in zip(again.features, anew.features, strict=True))


def counted(name: str, seen: list[tuple[str, int]]) -> Losses:
    """A term that notes its steps."""

    def loss(step: int) -> dict[str, Tensor]:
        seen.append((name, step))
        return {name: torch.ones(())}

    return loss


def test_terms_take_turns_and_keep_their_own_count() -> None:
    seen: list[tuple[str, int]] = []
    losses = in_turn(counted("a", seen), counted("b", seen))
    assert [list(losses(step)) for step in range(4)] == [["a"], ["b"], ["a"], ["b"]]
    assert seen == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert in_turn()(7) == {}
    rare = every(3, counted("c", seen))
    assert [{k: float(v) for k, v in rare(step).items()} for step in range(4)] == [{"c": 3.0}, {}, {}, {"c": 3.0}]


@pytest.mark.parametrize(
    ("costs", "budget"),
    [((1,), 1 / 4), ((3, 3), 2), ((27, 27, 8), 16), ((1, 1), 2), ((1, 2), 9), ((5,), Fraction(1, 3)), ((), 2)],
)
def test_terms_come_as_often_as_a_step_can_afford_them(costs: tuple[int, ...], budget: float) -> None:
    seen: list[tuple[str, int]] = []
    terms = [counted(str(number), seen) for number in range(len(costs))]
    losses, steps = affordable(terms, costs, Fraction(budget)), 120
    pulls = [losses(step) for step in range(steps)]
    spent = [sum(costs[int(name)] for name in pull) for pull in pulls]
    for step in range(steps):
        assert sum(spent[: step + 1]) < (step + 1) * budget + max(costs, default=0)
    for number in range(len(costs)):
        own = [step for name, step in seen if name == str(number)]
        assert own == list(range(len(own))), "each sees consecutive steps of its own"
        pull = sum(float(found.get(str(number), 0)) for found in pulls)
        rarely = max(1.0, float(sum(costs) / budget))
        assert abs(pull - steps) <= rarely, "the same pull on average, however rare"
    if costs and budget >= sum(costs):
        assert all(len(pull) == len(costs) for pull in pulls)


@pytest.mark.parametrize("rank", [65, 256])
def test_a_rank_above_every_layer_is_refused(tmp_path: Path, workspace: Workspace, rank: int) -> None:
    with pytest.raises(InputError, match=f"lora_rank {rank} is more than any layer"):
        stage("lora", context(workspace, tmp_path / "a", FIRST, workspace.version("M0"), lora_rank=rank))


def test_a_rank_above_narrow_layers_gives_those_their_full_rank(tmp_path: Path, workspace: Workspace) -> None:
    version, _ = stage("lora", context(workspace, tmp_path / "a", FIRST, workspace.version("M0"), lora_rank=8))
    found = ranks(tensors(workspace, workspace.version("M0")), tensors(workspace, version))
    assert {4, 8} <= set(found.values())


class Hungry(Strategy):
    """Stands for a stage that runs out of memory until batch and patch are small enough."""

    title = description = keeps = "hungry"

    def __init__(self, fits: Callable[[Context], bool], error: Exception) -> None:
        self.fits, self.error, self.tried = fits, error, []  # type: ignore[var-annotated]

    def learn(self, context: Context, folder: Path) -> Learned:
        self.tried.append((context.settings.batch_size, context.plan.patch))
        if not self.fits(context):
            raise self.error
        return REGISTRY["sequential"].learn(context, folder)


NO_MEMORY = RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried")


@pytest.mark.parametrize("error", [NO_MEMORY, torch.OutOfMemoryError("CUDA out of memory.")])
def test_out_of_memory_halves_the_batch_once(tmp_path: Path, workspace: Workspace, error: Exception) -> None:
    start = context(workspace, tmp_path / "a", FIRST, workspace.version("M0"))
    hungry = Hungry(lambda context: context.settings.batch_size == 1, error)
    learn_in_memory(hungry, start, tmp_path)
    assert [batch for batch, _ in hungry.tried] == [2, 1]
    assert "batches of 1 instead of 2" in start.reporter.warnings[0]  # type: ignore[attr-defined]


def test_out_of_memory_halves_the_patch_where_the_batch_is_one(tmp_path: Path, workspace: Workspace) -> None:
    start = context(workspace, tmp_path / "a", FIRST, workspace.version("M0"), batch_size=1)
    hungry = Hungry(lambda context: max(context.plan.patch) <= 8, NO_MEMORY)
    learn_in_memory(hungry, start, tmp_path)
    assert [max(patch) for _, patch in hungry.tried] == [16, 8]


def test_what_never_fits_fails_clearly_and_other_errors_pass(tmp_path: Path, workspace: Workspace) -> None:
    start = context(workspace, tmp_path / "a", FIRST, workspace.version("M0"))
    with pytest.raises(JobError, match=r"Out of memory, with batches of 1 instead of 2 too\. Close other programs"):
        learn_in_memory(Hungry(lambda context: False, NO_MEMORY), start, tmp_path)
    with pytest.raises(RuntimeError, match="something else"):
        learn_in_memory(Hungry(lambda context: False, RuntimeError("something else")), start, tmp_path)


@pytest.mark.parametrize("limit", [1, 0])
def test_scoring_that_does_not_fit_goes_on_crop_by_crop(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """The real scoring, on a machine that has room for `limit` crops."""
    settings = {"selection": "mds", "selection_passes": 11}
    usual = with_chosen_buffer(context(workspace, tmp_path / "a", FIRST, workspace.version("M0"), **settings))[1]
    forward = MaskedReconstruction.forward

    def short_of_memory(self: MaskedReconstruction, backbone: Backbone, crops: Tensor, seeds: Sequence[Seed]) -> Tensor:
        if len(crops) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, backbone, crops, seeds)

    monkeypatch.setattr(MaskedReconstruction, "forward", short_of_memory)
    start = context(workspace, tmp_path / "b", FIRST, workspace.version("M0"), **settings)
    if not limit:
        with pytest.raises(JobError, match=r"Out of memory, with one crop at a time too\. Close other programs"):
            with_chosen_buffer(start)
        return
    scored = with_chosen_buffer(start)[1]
    assert "begins again with one crop at a time" in start.reporter.warnings[0]  # type: ignore[attr-defined]
    assert [s.case for s in scored.scores if s.kept] == [s.case for s in usual.scores if s.kept]
    assert [s.loss for s in scored.scores] == pytest.approx([s.loss for s in usual.scores], rel=1e-5)


def test_baseline_settings_have_defaults_for_plain_adaptations() -> None:
    plain = AdaptSettings.model_validate({k: v for k, v in TINY.items() if k in AdaptSettings.model_fields})
    assert StrategySettings.of(plain).lwf_temperature == StrategySettings().lwf_temperature
    assert StrategySettings.of(plain).stage_a_steps == plain.stage_a_steps


def test_adapters_that_begin_like_stage_a_are_its_best_approximation_of_their_rank() -> None:
    base, target = build_backbone(SMALL, 0), build_backbone(SMALL, 1)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    student = attach_lora(base, 2, 4, seed=0)
    start_like(student, target)
    merged = merge(student).state_dict()
    assert max(ranks(before, merged).values()) == 2
    for name, module in target.named_modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            axis = int(isinstance(module, nn.ConvTranspose3d))
            full = (module.weight.detach() - before[f"{name}.weight"]).transpose(0, axis).flatten(1)
            cut = (merged[f"{name}.weight"] - before[f"{name}.weight"]).transpose(0, axis).flatten(1)
            lost = torch.linalg.svdvals(full)[2:].square().sum().sqrt()  # Eckart and Young: no rank 2 comes nearer
            assert float((full - cut).norm()) == pytest.approx(float(lost), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 2.25),
        ({"earlier_volume": 1}, 2),
        ({"earlier_volume": 0}, 3),
        ({"distil_earlier_tasks": False}, 1),
        ({"stage_b_data": "task"}, 1),
        ({"buffers": "this task"}, 1),
    ],
)
def test_the_forecast_of_stage_b_counts_the_tasks_that_it_imitates(changes: dict[str, object], steps: float) -> None:
    settings = AdaptSettings.model_validate({"stage_b_steps": 10, **changes})
    alone, with_earlier = (dict(expected_stages(settings, earlier))["stage B"] for earlier in (0, 2))
    assert alone * steps == pytest.approx(with_earlier)


@pytest.mark.parametrize("off", [{"feature_weight": 0}, {"stage_a_teacher": "none"}, {"selection": "none"}])
def test_the_forecast_of_stage_a_counts_its_looks_at_buffers(off: dict[str, object]) -> None:
    def stage_a(**changes: object) -> float:
        return dict(expected_stages(AdaptSettings.model_validate({"stage_a_steps": 10, **changes}), 0))["stage A"]

    assert stage_a(**off) == 10
    assert stage_a(feature_interval=1) - 10 == pytest.approx(4 * (stage_a(feature_interval=4) - 10))


def test_with_enough_rank_the_hand_over_begins_as_stage_a_ended(tmp_path: Path, workspace: Workspace) -> None:
    start = context(workspace, tmp_path / "a", FIRST, workspace.version("M0"), lora_rank=8, stage_b_learning_rate=1e-9)
    version, _ = stage("medseqft", start)
    weights = {n: t for n, t in tensors(workspace, version).items() if t.ndim == 5}
    served = tensors(workspace, version, TASK_BACKBONE)
    m0 = tensors(workspace, workspace.version("M0"))
    assert distance(weights, served) < 1e-4 < distance(weights, m0)
