"""The catalogue of foundation models: complete, valid, and with a schema that other programs can check it by."""

from __future__ import annotations

from pathlib import Path

import pytest

from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.models.catalogue import Rule, catalogue
from MedSeqFTLib.workspace.names import checked_name

WANTED = {
    "medseqft-starter",
    "monai-swin-unetr-ssl",
    "monai-swin-unetr-btcv",
    *(f"voco-{size}" for size in "blh"),
    *(f"suprem-{network}" for network in ("swin-unetr", "unet", "segresnet")),
    *(f"stu-net-{size}" for size in "sblh"),
    "openmind-resenc-l-mae",
    "medcoss-vit-b-mae",
}


def test_the_catalogue_has_every_model() -> None:
    models = catalogue().models
    assert {model.id for model in models} == WANTED
    assert len(models) == len(WANTED)
    for model in models:
        assert checked_name(model.id, "model") == model.id
        assert model.licence
        assert all(side % model.network.stride == 0 for side in model.input.patch), model.id
        if model.pretext is not None and model.pretext.crop is not None:
            assert all(side % model.network.stride == 0 for side in model.pretext.crop), model.id


def test_the_schema_fits_the_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise: python Testing/update_catalogue_schema.py"""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1]))
    from update_catalogue_schema import SCHEMA, schema

    assert SCHEMA.read_text(encoding="utf-8") == schema()


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no model 'sam'.*medseqft-starter"):
        catalogue().model("sam")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"models": [{"id": "x"}]}'])
def test_a_damaged_catalogue_is_reported(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"catalogue of foundation models .*models.json cannot be used"):
        catalogue(path)


def test_a_rule_is_anchored() -> None:
    with pytest.raises(ValueError, match="anchored"):
        Rule(do="drop", match="module")
