"""`medseqft analyse` on a workspace of two learned tasks, with a foundation model of another network besides."""

from __future__ import annotations

import csv
import errno
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from learning_samples import TINY, Notes, add_balls, ball_task, ball_workspace
from typer.testing import CliRunner, Result
from workspace_samples import tree

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.imaging.sampling import PatchSampler
from MedSeqFTLib.jobs.control import new_job
from MedSeqFTLib.learning import analysis
from MedSeqFTLib.learning.adaptation import run_adaptation
from MedSeqFTLib.learning.data import PreparedData
from MedSeqFTLib.learning.losses import TaskLoss
from MedSeqFTLib.learning.publishing import publish_foundation, save_modules
from MedSeqFTLib.learning.settings import AdaptSettings, adapt_settings
from MedSeqFTLib.models.compute import choose_compute
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.weights import BACKBONE, load_task_model
from MedSeqFTLib.workspace.networks import ResidualUNetDescription
from MedSeqFTLib.workspace.schema import Role
from MedSeqFTLib.workspace.workspace import Workspace

Run = Callable[..., Result]
SMALL = ("--batches", 1, "--grid", 3, "--device", "cpu")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """M0; M1 of the task balls; M2 of more-balls; M3, a foundation model with another network."""
    folder = tmp_path_factory.mktemp("analysed")
    workspace = ball_workspace(folder)
    foundation(workspace, channels=(8, 16, 32))
    adapt(workspace, "balls", folder / "job1")
    second = workspace.add_task(ball_task("more-balls"))
    add_balls(workspace, folder / "job1", second, range(10, 12), Role.TRAIN)
    adapt(workspace, "more-balls", folder / "job2")
    foundation(workspace, channels=(4, 8))
    return workspace


def foundation(workspace: Workspace, channels: tuple[int, ...]) -> None:
    network = ResidualUNetDescription(channels=channels)
    with workspace.staging() as staging:
        save_modules(staging, {BACKBONE: build_backbone(network, 0)})
        publish_foundation(workspace, staging, network, "random weights")


def adapt(workspace: Workspace, task: str, folder: Path) -> None:
    folder.mkdir()
    settings = adapt_settings(
        "quick",
        {**TINY, "stage_a_steps": "3", "stage_b_steps": "3", "device": "cpu", "threads": "1", "selection": "all"},
    )
    job = new_job(workspace, "adapt", task, settings.model_dump(mode="json"))
    job = job.model_copy(update={"id": folder.name})  # the free name is taken only when a job is started
    run_adaptation(workspace, job, Notes(folder))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small are not worth a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the workspace, from tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEQFT_WORKSPACE", str(workspace.folder))
    return lambda *arguments: CliRunner().invoke(app, ["analyse", *(str(argument) for argument in arguments)])


def refused(result: Result, folder: Path, *parts: str) -> None:
    """The request was refused with exit code 2 and one line that has all `parts`, and nothing was written."""
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr
    assert not list(folder.iterdir())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_landscape_of_two_versions_as_one_model(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    versions = tree(workspace.folder / "models")
    result = run("landscape", "M1", "M2", "--task", "balls", "--reading", "single-model", *SMALL)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "landscape-balls"
    names = {"landscape.json", "landscape.csv", "curves.png", "contours.png"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["landscape-balls"]
    document = json.loads((folder / "landscape.json").read_text("utf-8"))
    assert (document["task"], document["reading"], document["role"]) == ("balls", "single-model", "train")
    assert document["cases"] == ["case0", "case1", "case2"]
    one, two = document["models"]["M1"], document["models"]["M2"]
    assert one["loss"] != two["loss"]
    assert one["grid"][1][1] == one["curve"][2] == one["loss"]
    assert f"M1 {one['loss']:.4f} {one['sharpness']:.4f}" in " ".join(result.stdout.split())
    assert tree(workspace.folder / "models") == versions


def test_pictures_can_call_versions_by_other_names(run: Run, tmp_path: Path) -> None:
    result = run("variation", "M1=first task", "M2", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "variation" / "variation.json").read_text("utf-8"))
    assert document["versions"] == {"first task": "M1", "M2": "M2"}
    assert set(document["models"]) == set(json.loads(result.stdout)["models"]) == {"first task", "M2"}


def test_two_versions_of_one_name_are_refused(run: Run, tmp_path: Path) -> None:
    refused(run("landscape", "M1=M2", "M2", "--task", "balls"), tmp_path, "Name M2 is named twice")


def test_landscape_starts_at_the_loss_of_training(run: Run, workspace: Workspace, tmp_path: Path) -> None:
    """Measured once more with the loss of stage A itself; the same command gives the same figures again."""
    arguments = ("landscape", "M1", "--task", "balls", *SMALL, "--batches", 2, "--seed", 5)
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["models"]["M1"]
    version = workspace.version("M1")
    plan = version.plans["balls"]
    prepared = PreparedData(workspace).cases(workspace.cases("balls", Role.TRAIN), plan)
    sampler = PatchSampler(prepared, plan.patch, AdaptSettings().batch_size, seed=5, augment=False)
    compute = choose_compute("cpu", "float32")
    backbone, head = load_task_model(workspace, version)
    stage = TaskLoss(backbone, head, sampler, compute)
    with torch.no_grad():
        losses = [float(stage(step)["segmentation"]) for step in range(2)]
        assert analysis.batch_loss(backbone, head, [sampler.batch(0)], compute)() == pytest.approx(losses[0])
    assert found["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)
    again = run(*arguments, "--json", "--folder", "again")
    assert json.loads(again.stdout)["models"] == json.loads(result.stdout)["models"]
    other = run(*arguments, "--json", "--folder", "other", "--cases", "validation")
    assert json.loads(other.stdout)["cases"] == ["case100"]
    assert json.loads(other.stdout)["models"]["M1"]["loss"] != found["loss"]


def test_variation_of_task_models_and_of_the_chain(run: Run, tmp_path: Path) -> None:
    """What is handed on changed in few dimensions, what was fine-tuned in all."""
    assert run("variation", "M1", "M2", "--folder", "full").exit_code == 0
    result = run("variation", "M1", "M2", "--model", "chain", "--folder", "chain", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["reference"] == {"M1": "M0", "M2": "M0"}
    assert document["files"] == ["variation.json", "layers.csv", "blocks.csv", "variation.png"]
    assert {path.name for path in (tmp_path / "chain").iterdir()} == set(document["files"])
    full, chain = (table(tmp_path / name / "layers.csv") for name in ("full", "chain"))
    assert [row["layer"] for row in full] == [row["layer"] for row in chain]
    wide = [n for n, row in enumerate(chain) if row["full_rank"] and int(row["full_rank"]) > 16]
    assert wide
    for number in wide:
        steps = 1 if chain[number]["model"] == "M1" else 2  # of rank 8 each
        assert 0 < int(chain[number]["rank"]) <= 8 * steps
        assert int(full[number]["rank"]) > 8 * steps
    ways = ["down 1", "down 2", "bottom 3", "up 2", "up 1"]
    assert [row["block"] for row in table(tmp_path / "full" / "blocks.csv")] == ways * 2


def test_variation_against_the_parent(run: Run, tmp_path: Path) -> None:
    result = run("variation", "M2", "--model", "chain", "--with", "M1", "--json")
    assert json.loads(result.stdout)["reference"] == {"M2": "M1"}
    ranks = [int(row["rank"]) for row in table(tmp_path / "variation" / "layers.csv") if row["rank"]]
    assert 0 < max(ranks) <= 8


def test_variation_prints_blocks(run: Run) -> None:
    out = run("variation", "M1", "M2").stdout
    assert out.splitlines()[0].split() == ["Change", "of", "M1", "M2"]
    assert [line.rsplit(maxsplit=2)[0].strip() for line in out.splitlines()[1:7]][-2:] == ["up 1", "all"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("M9", "--task", "balls"), "no model version M9 (versions: M0, M1, M2, M3)"),
        (("nine", "--task", "balls"), "'nine' is not a model version"),
        (("M0", "--task", "balls"), "M0 cannot segment task balls: it is a foundation model"),
        (("M2", "--task", "balls"), "M2 cannot segment task balls: it segments more-balls"),
        (("M1", "--task", "more-balls", "--reading", "single-model"), "M1 cannot segment task more-balls"),
        (("M1", "--task", "nothing"), "no task 'nothing'"),
        (("M1", "M1", "--task", "balls"), "M1 is named twice"),
        (("M1", "--task", "balls", "--grid", "4"), "grid is 4; expected an odd number"),
        (("M1", "--task", "balls", "--radius", "0"), "radius is 0.0; expected a length above 0"),
        (("M2", "--task", "more-balls", "--cases", "validation"), "more-balls has no validation case"),
    ],
)
def test_landscapes_that_cannot_be_measured(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    refused(run("landscape", *arguments), tmp_path, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("M1", "M0"), "M0 is a foundation model: it has no model of a task"),
        (("M1", "M3", "--model", "chain"), "M1 and M3 have different networks"),
        (("M1", "--with", "M3"), "M1 and M3 have different networks"),
        (("M1", "--with", "M8"), "no model version M8"),
        (("M1", "M2", "M1"), "M1 is named twice"),
    ],
)
def test_variations_that_cannot_be_measured(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    refused(run("variation", *arguments), tmp_path, message)


def test_a_folder_that_exists_is_never_touched(run: Run, tmp_path: Path) -> None:
    (tmp_path / "variation").mkdir()
    result = run("variation", "M1")
    assert result.exit_code == 2
    assert "variation exists already; name a new folder with --folder" in result.stderr
    assert not list((tmp_path / "variation").iterdir())


def test_ctrl_c_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes while points are being measured."""

    def interrupted(*arguments: object) -> Callable[[], float]:
        return lambda: signal.raise_signal(signal.SIGINT) or 0.0

    monkeypatch.setattr(analysis, "batch_loss", interrupted)
    result = run("landscape", "M1", "--task", "balls", *SMALL, "--folder", "new/out")
    assert result.exit_code == 130
    assert result.stderr == "Error: interrupted\n"
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the second file is written."""
    plain = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if path.name == "layers.csv":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return plain(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    refused(run("variation", "M1"), tmp_path, "the disk is full")
