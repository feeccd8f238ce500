"""What may become current: the policy of a workspace, and what a chain forgets of earlier tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner
from workspace_samples import a_task, a_version, tree, weights_folder

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import InputError
from MedSeqFTLib.learning.promotion import judge, promote_by_hand, promote_if_better
from MedSeqFTLib.learning.split import suggested_split
from MedSeqFTLib.workspace.audit import entries
from MedSeqFTLib.workspace.audit_check import verify
from MedSeqFTLib.workspace.policy import Policy, Promotion
from MedSeqFTLib.workspace.schema import (
    CaseScore,
    CrossValidation,
    ModelVersion,
    Percentile,
    Reading,
    Role,
    TaskPlan,
    TaskScores,
)
from MedSeqFTLib.workspace.workspace import WORKSPACE_FILE, Workspace

PLAN = TaskPlan(labels=a_task().labels, intensity=Percentile(), spacing=(1, 1, 1), patch=(16, 16, 16))
ROOMS = (0.81, 0.72, 0.90, 0.66, 0.85, 0.78)


class Told:
    """Whoever listens to the gate."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def scores(
    version: str, change: float, task: str = "brain", reading: Reading = "per-task", cases: int = 6
) -> TaskScores:
    """Cases of very different Dice; each changes a little differently around `change`."""
    found = [
        CaseScore(case=f"{task}{n}", dice={"grey matter": dice + change + 0.002 * (-1) ** n if change else dice})
        for n, dice in enumerate(ROOMS[:cases])
    ]
    return TaskScores(task=task, reading=reading, version=version, cases=tuple(found), mean_dice=0.8)


def both(task: str, change: float, reading: Reading = "per-task", cases: int = 6) -> tuple[TaskScores, ...]:
    return scores("M1", 0.0, task, reading, cases), scores("M2", change, task, reading, cases)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """M1 of brain is current."""
    found = Workspace.create(tmp_path / "workspace")
    for task in ("brain", "heart"):
        found.add_task(a_task(task))
    publish(found, "M1", None)
    found.promote("M1", "reader", "first")
    return found


def publish(workspace: Workspace, name: str, parent: str | None = "M1", *measured: TaskScores) -> ModelVersion:
    folder = weights_folder(workspace.folder.parent / name)
    version = a_version(name, folder, "brain", parent)
    plans = {task: PLAN for task in ("heart", "brain")}
    return workspace.publish(version.model_copy(update={"scores": measured, "plans": plans}), folder)


# the policy


@pytest.mark.parametrize(
    ("promotion", "change", "promoted", "said"),
    [
        ("better", 0.03, True, "against M1 better"),
        ("better", 0.0, False, "models promote M2 --reason"),
        ("person", 0.03, False, "every promotion is a person's"),
        ("never", 0.03, False, "nothing is promoted until the policy is changed"),
    ],
)
def test_the_policy_decides_what_is_promoted_by_itself(
    workspace: Workspace, promotion: Promotion, change: float, promoted: bool, said: str
) -> None:
    version, told = publish(workspace, "M2", "M1", *both("brain", change)), Told()
    if promotion != "better":
        workspace.change_policy(Policy(promotion=promotion), "reader", "a trial")
    assert promote_if_better(workspace, version, told) is promoted  # type: ignore[arg-type]
    assert (workspace.pointers().tasks["brain"] == "M2") is promoted
    assert said in (told.messages if promoted else told.warnings)[0]


def test_a_first_version_waits_for_a_person_where_the_policy_says_so(workspace: Workspace) -> None:
    workspace.rollback("brain", "reader", "begin anew")
    workspace.change_policy(Policy(promotion="person"), "reader", "a trial")
    version = publish(workspace, "M2")
    assert not promote_if_better(workspace, version, Told())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"M2 is promoted only with a reason: .*every promotion is a person's"):
        promote_by_hand(workspace, "M2", "reader", " ")
    promote_by_hand(workspace, "M2", "reader", "looked at ten scans")
    assert workspace.pointers().tasks == {"brain": "M2"}


def test_a_frozen_workspace_promotes_nothing_but_rolls_back(workspace: Workspace) -> None:
    publish(workspace, "M2", "M1", *both("brain", 0.03))
    promote_by_hand(workspace, "M2", "reader", "")
    workspace.change_policy(Policy(promotion="never"), "reader", "frozen for a study")
    before = tree(workspace.folder)
    for name, reason in (("M1", "the better one"), ("M1", "")):
        with pytest.raises(InputError, match=r"M1 is not promoted\. .*'never'"):
            promote_by_hand(workspace, name, "reader", reason)
    assert tree(workspace.folder) == before
    workspace.rollback("brain", "reader", "worse in practice")
    assert workspace.pointers().tasks == {"brain": "M1"}


def test_a_change_of_policy_is_an_audited_act(workspace: Workspace) -> None:
    before = tree(workspace.folder)
    with pytest.raises(InputError, match="only with a reason"):
        workspace.change_policy(Policy(promotion="never"), "reader", "  ")
    with pytest.raises(InputError, match="is this already"):
        workspace.change_policy(Policy(), "reader", "again")
    assert tree(workspace.folder) == before
    workspace.change_policy(Policy(promotion="never", margin=0.02), "reader", "frozen for a study")
    entry = list(entries(workspace))[-1][0]
    assert (entry.act, entry.who, entry.reason) == ("policy changed", "reader", "frozen for a study")
    assert entry.subject == "never, margin 0.02, earlier tasks 0.05"
    assert Workspace.open(workspace.folder).policy == Policy(promotion="never", margin=0.02)
    assert verify(workspace).problems == ()
    path = workspace.folder / WORKSPACE_FILE
    path.write_text(path.read_text().replace("never", "better"))
    assert verify(workspace).problems == ("workspace.json was altered: it is not what the audit log says.",)


def test_a_workspace_of_an_older_program_promotes_what_is_better(workspace: Workspace) -> None:
    path = workspace.folder / WORKSPACE_FILE
    document = json.loads(path.read_text())
    del document["policy"], document["checksum"]
    path.write_text(json.dumps(document))
    assert Workspace.open(workspace.folder).policy == Policy(promotion="better", margin=0.01, earlier_margin=0.05)


def test_the_margin_of_the_policy_is_the_one_that_judges(workspace: Workspace) -> None:
    version = publish(workspace, "M2", "M1", *both("brain", -0.015))
    assert "worse" in judge(version, "M1", Policy()).sentence.split(":")[0]
    assert "no worse within the margin" in judge(version, "M1", Policy(margin=0.03)).sentence


def test_the_command_shows_and_changes_the_policy(workspace: Workspace) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["models", "policy", *arguments, "--workspace", str(workspace.folder)])
        return result.exit_code, result.output

    assert "better: by itself only what is shown to be better" in run()[1]
    assert run("never")[0] == 2
    assert workspace.policy == Policy()
    code, said = run("person", "--earlier-margin", "0.02", "--reason", "a trial", "--by", "Ada")
    assert code == 0 and "person: nothing by itself" in said and "0.02 Dice" in said
    assert workspace.policy == Policy(promotion="person", earlier_margin=0.02)
    assert json.loads(run("--json")[1]) == {"promotion": "person", "margin": 0.01, "earlier_margin": 0.02}
    assert list(entries(workspace))[-1][0].who == "Ada"


# earlier tasks


@pytest.mark.parametrize(
    ("change", "cases", "good", "judgement"),
    [
        (0.03, 6, True, "better"),
        (-0.03, 6, True, "no worse within the margin"),
        (-0.05, 6, True, "worse"),  # shown to be worse, but not by more than the margin
        (-0.09, 6, False, "worse"),
        (-0.09, 1, True, "not enough evidence"),
    ],
)
def test_a_shown_loss_on_an_earlier_task_waits_for_a_person(
    workspace: Workspace, change: float, cases: int, good: bool, judgement: str
) -> None:
    measured = [*both("brain", 0.03), *both("heart", change, "single-model", cases)]
    version, told = publish(workspace, "M2", "M1", *measured), Told()
    found = judge(version, "M1", Policy())
    (heart,) = found.earlier
    assert (heart.judgement, heart.loses, found.good) == (judgement, not good, good)
    assert f"Earlier tasks by the one model: heart {heart.before:.3f}, now {heart.after:.3f}, {judgement}" in str(found)
    assert ("More than 0.05 is lost on heart." in str(found)) is not good
    assert promote_if_better(workspace, version, told) is good  # type: ignore[arg-type]
    if good:
        assert workspace.pointers().history[-1].reason == str(found)
    else:
        promote_by_hand(workspace, "M2", "reader", "heart has a model of its own")
        move = workspace.pointers().history[-1]
        assert (move.reason, move.verdict) == ("heart has a model of its own", str(found))


def test_a_first_version_is_promoted_and_what_it_forgets_is_told(workspace: Workspace) -> None:
    workspace.rollback("brain", "reader", "begin anew")
    version, told = publish(workspace, "M2", "M1", *both("heart", -0.09, "single-model")), Told()
    assert promote_if_better(workspace, version, told)  # type: ignore[arg-type]
    assert told.warnings == ["M2 begins to forget heart; its own version still serves it."]


# cross-validation


def crossed(before: float, after: float, current: str = "M1") -> CrossValidation:
    measured = [
        TaskScores(
            task="brain",
            reading="per-task",
            version=version,
            cases=tuple(CaseScore(case=f"new{n}", dice={"grey matter": dice + n / 1000}) for n in range(4)),
            mean_dice=dice,
        )
        for version, dice in (("M2", after), (current, before))
    ]
    return CrossValidation(folds=2, recipe=measured[0], current=measured[1])


def judged_with(workspace: Workspace, held_out: int, change: float, found: CrossValidation) -> str:
    version = (
        publish(workspace, "M2", "M1", *both("brain", change, cases=held_out)) if held_out else publish(workspace, "M2")
    )
    return str(judge(version.model_copy(update={"cross_validation": found}), "M1"))


def test_cross_validated_cases_are_pooled_and_named(workspace: Workspace) -> None:
    said = judged_with(workspace, 2, 0.03, crossed(0.7, 0.75))
    assert said.startswith("against M1 better: Dice of unseen cases of brain")
    assert "2 held out, 4 cross-validated, which judge the recipe, not this very model)" in said


@pytest.mark.parametrize(("held_out", "change"), [(2, -0.3), (1, -0.1), (0, 0.0)])
def test_cross_validation_alone_promotes_nothing(workspace: Workspace, held_out: int, change: float) -> None:
    """It measures against labels that training learned: wrong ones would speak for what learned them."""
    assert judged_with(workspace, held_out, change, crossed(0.3, 0.8)).startswith("against M1 not enough evidence")


def test_cross_validation_against_another_version_does_not_count(workspace: Workspace) -> None:
    assert "cross-validated" not in judged_with(workspace, 2, 0.03, crossed(0.7, 0.75, current="M0"))


# which role the next cases should get


@pytest.mark.parametrize(
    ("train", "held_out", "said"),
    [
        (3, 0, "0 of 3 cases are held out, fewer than 5: hold out the next 2 (role validation)."),
        (3, 1, "1 of 4 cases are held out, fewer than 5: hold out the next 1 (role validation)."),
        (30, 1, "1 of 31 cases are held out, fewer than 5: hold out the next 4 (role validation)."),
        (4, 2, "2 of 6 cases are held out, fewer than 5: give the next 3 the role train, then hold one out"),
        (30, 5, "None"),
    ],
)
def test_a_split_is_suggested(train: int, held_out: int, said: str) -> None:
    assert str(suggested_split(train, held_out)).startswith(said)


def test_following_the_suggestion_leads_to_five_held_out_cases() -> None:
    train = held_out = 0
    while split := suggested_split(train, held_out):
        assert split.next_cases > 0
        held_out += split.next_cases * (split.role is Role.VALIDATION)
        train += split.next_cases * (split.role is Role.TRAIN)
    assert (train, held_out) == (13, 5)


def test_task_show_suggests_it(workspace: Workspace) -> None:
    result = CliRunner().invoke(app, ["task", "show", "brain", "--workspace", str(workspace.folder)])
    assert "0 train, 0 validation" in result.output and "hold out the next 2" in result.output
