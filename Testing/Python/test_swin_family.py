"""The Swin UNETR family: legacy merging, the backbone, its two pretext objectives, and the public files' names."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import PatchMerging
from pydantic import ValidationError

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.models.catalogue import FoundationModel, catalogue
from MedSeqFTLib.models.mapping import Coverage, coverage
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.networks.legacy_merging import LegacyPatchMerging
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.pretext.swin import cut_out, partners
from MedSeqFTLib.models.pretext.voco import alikeness, overlap, position_loss, positions
from MedSeqFTLib.workspace.networks import (
    PretextSpec,
    ResidualUNetDescription,
    SwinPretextDescription,
    SwinUNETRDescription,
    VoCoDescription,
)

SMALL = SwinUNETRDescription(
    feature_size=12, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8), values=(0, 1), axes="xyz-RAS", merging="legacy"
)
LEGACY = "000 100 010 001 101 010 001 111".split()
CURRENT = "000 100 010 001 110 101 011 111".split()
SSL = SwinPretextDescription(crop=(32, 32, 32), embedding=16)
VOCO = VoCoDescription(crop=(64, 32, 64), base=(1, 1, 2), width=8, queries=1)
WITHOUT_PROJECTION = VOCO.model_copy(update={"width": None})
FIXTURES = Path(__file__).parent / "fixtures" / "foundation"
FAMILY = "monai-swin-unetr-ssl monai-swin-unetr-btcv voco-b voco-l voco-h suprem-swin-unetr".split()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def smooth(crop: tuple[int, int, int], *seeds: int) -> torch.Tensor:
    """Images [seeds, 1, z, y, x] without sharp edges, as anatomy mostly is."""
    return F.interpolate(torch.cat([noise(1, 1, 4, 4, 4, seed=seed) for seed in seeds]), size=crop, mode="trilinear")


# Merging


def merged_slowly(module: PatchMerging, tokens: torch.Tensor, order: list[str]) -> torch.Tensor:
    """Token by token, neighbour by neighbour, from the documented order of offsets."""
    batch, *sides, channels = tokens.shape
    out = torch.empty(batch, *(side // 2 for side in sides), 2 * channels)
    for at in itertools.product(*(range(side // 2) for side in sides)):
        taken = [tokens[(slice(None), *(2 * a + int(o) for a, o in zip(at, offset, strict=True)))] for offset in order]
        out[(slice(None), *at)] = module.reduction(module.norm(torch.cat(taken, dim=-1)))
    return out


@pytest.mark.parametrize(("kind", "order"), [(LegacyPatchMerging, LEGACY), (PatchMerging, CURRENT)])
def test_merging_takes_neighbours_in_the_documented_order(kind: type[PatchMerging], order: list[str]) -> None:
    torch.manual_seed(0)
    module, tokens = kind(dim=3), torch.randn(2, 4, 2, 6, 3)
    assert torch.allclose(module(tokens), merged_slowly(module, tokens, order), atol=1e-6)


def test_legacy_and_current_weights_have_the_same_names_and_compute_different_things() -> None:
    legacy = build_backbone(SMALL, 0)
    current = build_backbone(SMALL.model_copy(update={"merging": "current"}), 1)
    names, others = legacy.state_dict(), current.state_dict()
    assert {name: value.shape for name, value in names.items()} == {n: value.shape for n, value in others.items()}
    current.load_state_dict(names)
    image = noise(1, 1, 64, 32, 32)
    with torch.no_grad():
        pairs = list(zip(legacy.encode(image), current.encode(image), strict=True))
    assert torch.equal(*pairs[0])
    assert all((a - b).norm() > 0.2 * b.norm() for a, b in pairs[1:])


# The backbone


@pytest.mark.parametrize("residual_stages", [False, True])
def test_the_backbone_computes_what_monais_network_computes(residual_stages: bool) -> None:
    shape = {"feature_size": 12, "depths": (2, 1, 1, 1)}
    network = SwinUNETRDescription(residual_stages=residual_stages, **shape)
    backbone = build_backbone(network, 3).eval()
    published = SwinUNETR(in_channels=1, out_channels=5, use_v2=residual_stages, **shape).eval()
    left = published.load_state_dict(backbone.unetr.state_dict(), strict=False)
    assert set(left.missing_keys) == {"out.conv.conv.weight", "out.conv.conv.bias"} and not left.unexpected_keys
    image = noise(1, 1, 64, 32, 32)
    with torch.no_grad():
        assert torch.equal(published.out(backbone.read_out(image).decoder), published(image))


def test_the_backbone_is_read_out_at_every_resolution() -> None:
    with torch.device("meta"):
        backbone = build_backbone(SMALL, 0)
        image = torch.empty(2, 1, 64, 32, 96)
        features, skips = backbone.read_out(image), backbone.skips(image)
    assert features.decoder.shape == (2, SMALL.features, 64, 32, 96)
    levels = [(2, 12 * 2**i, 32 >> i, 16 >> i, 48 >> i) for i in range(5)]
    assert [tuple(level.shape) for level in features.encoder] == levels
    assert [(level.shape[1], level.shape[2]) for level in skips] == [(12, 64), (12, 32), (24, 16), (48, 8), (192, 2)]


def test_features_come_back_on_our_axes() -> None:
    backbone = build_backbone(SMALL, 0).eval()
    image = noise(1, 1, 32, 32, 64)  # z, y, x
    with torch.no_grad():
        turned = backbone.read_out(((image + 1) / 2).permute(0, 1, 4, 3, 2).flip(2, 3)).decoder
        assert torch.equal(backbone(image).decoder, turned.flip(2, 3).permute(0, 1, 4, 3, 2))


@pytest.mark.parametrize("residual_stages", [False, True])
def test_every_parameter_takes_part_in_reading_out(residual_stages: bool) -> None:
    backbone = build_backbone(SMALL.model_copy(update={"residual_stages": residual_stages}), 0)
    backbone.read_out(noise(1, 1, 64, 32, 32)).decoder.square().mean().backward()
    idle = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


# Pretext objectives


@pytest.mark.parametrize("pretext", [SSL, VOCO, WITHOUT_PROJECTION])
def test_a_loss_depends_on_its_crop_and_its_seed_alone(pretext: PretextSpec) -> None:
    backbone, head = build_backbone(SMALL, 0).train(), build_pretext(pretext, SMALL, 0).train()
    crops, seeds = smooth(pretext.crop, 0, 1), [(1, 2), (3,)]
    state = {name: value.clone() for name, value in head.state_dict().items()}
    torch.manual_seed(0)
    with torch.no_grad():
        together = head(backbone, crops, seeds)
        torch.manual_seed(1)
        alone = head(backbone, crops[1:], seeds[1:])
        other = head(backbone, crops[1:], [(9, 9)])
    assert together.shape == (2,) and together.dtype == torch.float32 and together.isfinite().all()
    assert torch.allclose(together[1:], alone, rtol=1e-4)
    assert not torch.allclose(other, alone, rtol=1e-4)
    assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize(
    ("pretext", "reached"),
    [(SSL, "swinViT"), (VOCO, "encoder10"), (WITHOUT_PROJECTION.model_copy(update={"queries": 3}), "encoder1.")],
)
def test_gradients_reach_the_backbone_and_the_whole_head(pretext: PretextSpec, reached: str) -> None:
    backbone, head = build_backbone(SMALL, 0), build_pretext(pretext, SMALL, 0)
    head(backbone, smooth(pretext.crop, 0), [(5,)]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    trained = {name for name, p in backbone.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(reached in name for name in trained) and any("patch_embed" in name for name in trained)
    assert not any("decoder" in name for name in trained)


def test_swins_three_terms_are_what_they_say() -> None:
    """Heads set by hand: no idea of the rotation, of the partners, or of the image."""
    backbone, head = build_backbone(SMALL, 0).eval(), build_pretext(SSL, SMALL, 0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.contrastive_head.bias.fill_(1.0)  # every view and partner looks the same
        loss = head(backbone, torch.full((1, 1, 32, 32, 32), 0.5), [(4,)])
    guesses = torch.log(torch.tensor(4.0)) + torch.log(torch.tensor(1.0 + SSL.partners))
    assert torch.allclose(loss, guesses + 0.75)  # 0.5 in -1..1 is 0.75 in 0..1


def test_cut_out_blocks_hold_noise_within_the_values_and_partners_are_fixed() -> None:
    image = torch.full((1, 32, 32, 32), -7.0)
    damaged = [cut_out(image, 0.3, (0, 1), np.random.default_rng(seed)) for seed in range(8)]
    shares = [float((one != -7).float().mean()) for one in damaged]
    assert (image == -7).all() and 0 < max(shares) <= 0.3 + 0.25**3
    assert all(((one == -7) | ((one >= 0) & (one <= 1))).all() for one in damaged)
    assert torch.equal(damaged[3], cut_out(image, 0.3, (0, 1), np.random.default_rng(3)))
    first = partners(2, image, (-1, 1))
    assert first.shape == (2, 1, 32, 32, 32) and first.min() >= -1 and first.max() <= 1
    assert torch.equal(first, partners(2, image + 5, (-1, 1)))


def test_vocos_positions_and_overlaps() -> None:
    size, bases, randoms = positions((192, 192, 64), (3, 3, 1), 50, (1,))
    assert size == (64, 64, 64) and len(bases) == 9 and bases[1] == (0, 64, 0) and bases[-1] == (128, 128, 0)
    assert all(0 <= x < 128 and 0 <= y < 128 and z == 0 for x, y, z in randoms)
    assert randoms == positions((192, 192, 64), (3, 3, 1), 50, (1,))[2]
    shares = np.array([[overlap(start, base, size) for base in bases] for start in randoms])
    assert np.allclose(shares.sum(1), 1)
    assert overlap((16, 0, 0), (0, 0, 0), size) == 0.75 and overlap((64, 0, 0), (0, 0, 0), size) == 0


def test_vocos_losses_are_least_where_the_truth_is_told() -> None:
    truth = torch.tensor([[0.25, 0.75, 0.0]])
    assert position_loss(truth, truth) < 1e-4
    wrong = position_loss(torch.tensor([[0.75, 0.25, 0.5]]), truth)
    assert torch.allclose(wrong, 2 * torch.log(torch.tensor(2.0)), atol=1e-4)
    assert alikeness(torch.eye(3)) == 0 and alikeness(torch.ones(3, 1)) == 1
    assert alikeness(torch.tensor([[1.0], [-1.0]])) == 0


def test_voco_reads_the_published_layout_of_its_projection() -> None:
    """As the student in Self-supervised/models/voco_head.py."""
    with torch.device("meta"):
        head = build_pretext(VoCoDescription(), SwinUNETRDescription(), 0)
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == {
        "student.layer1.0.weight": (1024, 1152),
        "student.layer1.0.bias": (1024,),
        "student.layer2.0.weight": (1024, 1024),
        "student.layer2.0.bias": (1024,),
        "student.layer3.0.weight": (1024, 1024),
        "student.layer3.0.bias": (1024,),
    }


def test_crops_and_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="cube"):
        SwinPretextDescription(crop=(96, 96, 64))
    with pytest.raises(ValidationError, match="base crops"):
        VoCoDescription(crop=(64, 128, 192))
    for pretext in (SSL, VOCO):
        with pytest.raises(InputError, match="needs a Swin UNETR"):
            build_pretext(pretext, ResidualUNetDescription(), 0)


# The public files


def covered(model: FoundationModel, without: str = "") -> Coverage:
    """How a public file, as its fixture lists it, fits the network at its real size."""
    fixture = json.loads((FIXTURES / f"{model.id}.json").read_text(encoding="utf-8"))
    assert tuple(fixture["container"]) == model.container
    found = {name: tuple(shape) for name, shape in fixture["tensors"].items() if name != without}
    with torch.device("meta"):
        modules = {"backbone": build_backbone(model.network, 0)}
        if model.pretext is not None:
            modules["pretext"] = build_pretext(model.pretext, model.network, 0)
    expected = {
        f"{part}.{name}": tuple(value.shape)
        for part, module in modules.items()
        for name, value in module.state_dict().items()
    }
    return coverage(model, found, expected)


@pytest.mark.parametrize("name", FAMILY)
def test_a_public_file_is_taken_completely(name: str) -> None:
    found = covered(catalogue().model(name))
    assert found.complete and not found.unexpected
    assert not [ours for ours in found.missing if ours.startswith("pretext.")]
    assert all(found.dropped.values())


def test_what_public_files_hold_besides_the_encoder() -> None:
    ssl, btcv, voco = (covered(catalogue().model(name)) for name in FAMILY[:3])
    assert ssl.encoder == (126, 126) and len(ssl.matched) == 132
    assert set(ssl.dropped) == {"module.norm.weight", "module.norm.bias"}
    assert ssl.matched["pretext.convTrans3d.weight"] == "module.convTrans3d.weight"
    assert len(voco.matched) == 145 and all(".decoder" in name for name in voco.missing)
    assert not btcv.missing and set(btcv.dropped) == {"out.conv.conv.weight", "out.conv.conv.bias"}


def test_one_missing_tensor_makes_a_file_incomplete() -> None:
    model = catalogue().model("monai-swin-unetr-ssl")
    assert not covered(model, without="module.layers3.0.blocks.1.mlp.fc2.bias").complete
