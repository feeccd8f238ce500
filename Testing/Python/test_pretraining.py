"""Foundation models made here: synthetic images, recipes, and `medseqft pretrain` with a real worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from learning_samples import ball_scan
from typer.testing import CliRunner
from workspace_samples import tree

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.cohort import make_cohort
from MedSeqFTLib.imaging.decathlon import read_data_set, split
from MedSeqFTLib.imaging.synthetic import synthetic_levels
from MedSeqFTLib.imaging.volumes import write_volume
from MedSeqFTLib.learning.recipe import read_recipe
from MedSeqFTLib.learning.settings import ImageGroup, PretrainSettings, SyntheticGroup
from MedSeqFTLib.workspace.schema import Modality, Percentile, Role, Window
from MedSeqFTLib.workspace.workspace import Workspace

STARTER_RECIPE = Path(__file__).resolve().parents[2] / "Resources" / "Models" / "medseqft-starter.toml"
SMALL = """
steps = 3
patch_side = 16
[network]
kind = "residual-unet"
channels = [4, 8]
decoder_features = 4
"""
DEEP = """
patch_side = 16
[network]
kind = "residual-unet"
channels = [1, 2, 3, 4, 5, 6]
[[synthetic]]
modality = "CT"
count = 1
"""


@pytest.mark.parametrize("modality", list(Modality))
def test_synthetic_images_are_varied_and_reproducible(modality: Modality) -> None:
    first, again, other = (synthetic_levels(modality, 48, seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert (first != other).mean() > 0.5
    assert (first.shape, first.dtype) == ((48, 48, 48), np.int16)
    assert 0 <= first.min() < first.max() <= 4095
    assert first.std() > 100


def test_modalities_differ() -> None:
    assert not np.array_equal(synthetic_levels(Modality.CT, 48, 3), synthetic_levels(Modality.MR, 48, 3))


def scans(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for seed in range(count):
        write_volume(ball_scan(seed)[0], folder / f"scan{seed}.nrrd")


def write_recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_finds_files_and_the_training_side_of_data_sets(tmp_path: Path) -> None:
    scans(tmp_path / "scans", 2)
    made = make_cohort(tmp_path / "brains", "t1-tissue", 4, 0)
    recipe = write_recipe(
        tmp_path,
        'steps = 5\n[[images]]\nfiles = ["scans/*.nrrd", "scans/scan0.nrrd"]\nmodality = "CT"\n'
        '[[images]]\ndata_set = "brains"\nheld_out = 3\nsplit_seed = 1\n[[synthetic]]\nmodality = "MR"\ncount = 2\n',
    )
    settings = read_recipe(recipe)
    files, data_set, synthetic = settings.groups
    assert isinstance(files, ImageGroup)
    assert (len(files.images), files.intensity) == (2, Window())
    assert isinstance(data_set, ImageGroup)
    chosen = split(read_data_set(made).pairs, None, 3, 1)
    assert list(data_set.images) == [str(pair.image.resolve()) for pair, role in chosen if role is Role.TRAIN]
    assert data_set.intensity == Percentile()
    assert synthetic == SyntheticGroup(modality=Modality.MR, count=2)
    assert settings.steps == 5
    assert PretrainSettings.model_validate(settings.model_dump(mode="json")) == settings  # as a job keeps it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "is not a TOML file"),
        ("steps = 5", "names no images"),
        ("steps = 0\n[[synthetic]]\nmodality='CT'\ncount=1", "field steps"),
        ("stepps = 5\n[[synthetic]]\nmodality='CT'\ncount=1", "field stepps"),
        ("patch_side = 40\n[[synthetic]]\nmodality='CT'\ncount=1", "field patch_side"),
        (DEEP, "patch_side 16 must be a multiple of the stride, 32 voxels"),
        ("[[images]]\nfiles=['*.nrrd']", "files need a modality"),
        ("[[images]]\nfiles=['*.nrrd']\nmodality='MR'", r"names \*.nrrd, but nothing in"),
        ("[[images]]\nfiles=['*.nrrd']\nmodality='US'", "modality"),
        ("[[images]]\nfiles=['/etc/*.nrrd']\nmodality='MR'", "files '/etc/"),
        ("[[images]]\nfiles=['']\nmodality='MR'", "files ''"),
        (f"[[images]]\nfiles=['{'x' * 300}/*.nrrd']\nmodality='MR'", "files 'xxx"),
        ("[[images]]\ndata_set='x'", "data_set needs held_out"),
        ("[[images]]\ndata_set='x'\nheld_out=1", "dataset.json"),
        ("[[images]]\nheld_out=1", "give either files"),
        ("images = 3", r"write \[\[images\]\]"),
    ],
)  # fmt: skip
def test_an_unusable_recipe_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe(write_recipe(tmp_path, text))


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.toml cannot be read"):
        read_recipe(tmp_path / "nowhere.toml")


def test_the_starters_recipe_is_valid_and_never_looks_at_held_out_cases() -> None:
    """Its images lie beside the project, so only what needs none of them is checked here."""
    text = STARTER_RECIPE.read_text(encoding="utf-8")
    with pytest.raises(InputError, match="Task01_Hippocampus has no dataset.json"):
        read_recipe(STARTER_RECIPE)
    assert text.count("data_set") == text.count("held_out =") == 4


def test_pretrain_makes_a_foundation_model_from_a_recipe(tmp_path: Path) -> None:
    scans(tmp_path / "scans", 2)
    synthetic = '[[synthetic]]\nmodality = "CT"\ncount = 1\nside = 32\n'
    recipe = write_recipe(tmp_path, f'{SMALL}\n[[images]]\nfiles = ["*.nrrd"]\nmodality = "MR"\n{synthetic}')
    workspace = Workspace.create(tmp_path / "workspace")
    before = tree(tmp_path / "scans")
    arguments = ["pretrain", recipe, "--data", tmp_path / "scans", "--wait", "--workspace", workspace.folder]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    (version,) = workspace.versions()
    assert (version.id, version.kind, version.network.kind) == ("M0", "foundation", "residual-unet")
    assert version.note == (
        "Pre-trained by masked reconstruction on 2 unlabelled images and 1 synthetic images, 3 steps."
    )
    assert version.input is not None
    assert version.input.patch == (16, 16, 16)
    assert "M0" in result.output
    assert tree(tmp_path / "scans") == before
