"""SegResNet, the U-Net of Models Genesis and STU-Net: what they compute, and whether published files fit them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SegResNet
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.catalogue import BACKBONE, FoundationModel, catalogue
from MedSeqFTLib.models.mapping import Coverage, coverage
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.workspace.networks import (
    GenesisUNetDescription,
    NetworkSpec,
    SegResNetDescription,
    STUNetDescription,
)

FIXTURES = Path(__file__).parent / "fixtures" / "foundation"
PUBLISHED = ("suprem-segresnet", "suprem-unet", "stu-net-s", "stu-net-b", "stu-net-l", "stu-net-h")
SEGRESNET = SegResNetDescription(filters=8)
GENESIS = GenesisUNetDescription(base=2)
STU = STUNetDescription(channels=(2, 4, 4, 6, 6, 8), depth=2)
NETWORKS = [SEGRESNET, GENESIS, STU]
kinds = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.kind)


def image(*shape: int, samples: int = 1) -> Tensor:
    return torch.randn((samples, 1, *shape), generator=torch.Generator().manual_seed(0))


def small(network: NetworkSpec, samples: int = 1) -> Tensor:
    """An image of the least sides that leave more than one voxel at the deepest level."""
    side = max(network.stride, 16)
    return image(side, side, side, samples=samples)


def built(network: NetworkSpec, seed: int = 0) -> Backbone:
    """A backbone whose normalisations change what they get, as trained ones do."""
    backbone = build_backbone(network, seed)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in backbone.modules():
            if isinstance(module, nn.InstanceNorm3d | nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return backbone


def compared(name: str, change: dict[str, str] | None = None) -> tuple[FoundationModel, Coverage]:
    """An entry and how a file with the names of its fixture fits it; `change`: prefixes of names to put another for."""
    entry = catalogue().model(name)
    fixture = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    assert tuple(fixture["container"]) == entry.container
    found = {_changed(key, change or {}): tuple(shape) for key, shape in fixture["tensors"].items()}
    with torch.device("meta"):
        backbone = build_backbone(entry.network, 0)
    expected = {BACKBONE + key: tuple(tensor.shape) for key, tensor in backbone.state_dict().items()}
    return entry, coverage(entry, found, expected)


def _changed(name: str, change: dict[str, str]) -> str:
    return next((new + name.removeprefix(old) for old, new in change.items() if name.startswith(old)), name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_fits_with_nothing_missing_and_nothing_unexplained(name: str) -> None:
    _, fit = compared(name)
    assert fit.complete
    assert not fit.missing and not fit.unexpected
    assert all(fit.dropped.values())


@pytest.mark.parametrize(
    ("name", "change"),
    [("suprem-segresnet", {"module.": ""}), ("suprem-unet", {"module.": ""}), ("stu-net-s", {"": "module."})],
)
def test_the_wrapper_of_parallel_training_may_be_there_or_not(name: str, change: dict[str, str]) -> None:
    assert compared(name, change)[1].complete


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("suprem-segresnet", {"module.": "net."}),
        ("suprem-unet", {"module.backbone.": ""}),
        ("stu-net-b", {"conv_blocks_context.": "encoder."}),
    ],
)
def test_another_layout_does_not_pass(name: str, change: dict[str, str]) -> None:
    fit = compared(name, change)[1]
    assert not fit.complete and fit.missing and fit.unexpected


def test_a_file_of_another_size_does_not_pass() -> None:
    fixture = json.loads((FIXTURES / "stu-net-b.json").read_text(encoding="utf-8"))
    entry = catalogue().model("stu-net-s")
    with torch.device("meta"):
        expected = build_backbone(entry.network, 0).state_dict()
    shapes = {name: tuple(shape) for name, shape in fixture["tensors"].items()}
    fit = coverage(entry, shapes, {BACKBONE + name: tuple(tensor.shape) for name, tensor in expected.items()})
    assert not fit.complete and fit.wrong_shape


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("suprem-segresnet", 4.70),
        ("stu-net-s", 14.6),
        ("stu-net-b", 58.26),
        ("stu-net-l", 440.30),
        ("stu-net-h", 1457.33),
    ],
)
def test_the_files_have_as_many_parameters_as_their_publishers_say(name: str, millions: float) -> None:
    shapes = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))["tensors"].values()
    assert sum(torch.Size(shape).numel() for shape in shapes) / 1e6 == pytest.approx(millions, rel=5e-4, abs=0.05)


@kinds
@pytest.mark.parametrize("multiples", [(1, 1, 1), (3, 1, 2)])
def test_decoder_features_have_the_resolution_of_the_image(
    network: NetworkSpec, multiples: tuple[int, int, int]
) -> None:
    shape = tuple(side * multiple for side, multiple in zip(small(network).shape[2:], multiples, strict=True))
    with torch.no_grad():
        features = built(network).read_out(image(*shape))
    assert features.decoder.shape == (1, network.features, *shape)
    assert features.encoder[0].shape[2:] == shape
    assert [level.shape[-1] for level in features.encoder] == sorted(
        {shape[2] // 2**n for n in range(len(features.encoder))}
    )[::-1]


@kinds
def test_the_whole_backbone_takes_part_in_its_features(network: NetworkSpec) -> None:
    backbone = built(network)
    backbone.read_out(small(network)).decoder.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in backbone.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    silent = [name for name, gradient in gradients.items() if gradient is not None and not gradient.any()]
    assert [name for name in silent if name.endswith("weight")] == []


@kinds
def test_no_module_is_known_by_two_names(network: NetworkSpec) -> None:
    backbone = build_backbone(network, 0)
    named = [module for _, module in backbone.named_modules(remove_duplicate=False)]
    assert len(named) == len(set(named))


@kinds
def test_the_encoder_alone_gives_the_same_features(network: NetworkSpec) -> None:
    backbone = built(network)
    with torch.no_grad():
        alone, both = backbone.encode(small(network)), backbone.read_out(small(network)).encoder
    assert all(torch.equal(one, other) for one, other in zip(alone, both, strict=True))


@kinds
def test_the_features_of_an_image_do_not_depend_on_who_else_is_in_the_batch(network: NetworkSpec) -> None:
    backbone, pair = built(network), small(network, samples=2)
    with torch.no_grad():
        torch.testing.assert_close(backbone(pair).decoder[:1], backbone(pair[:1]).decoder, rtol=0, atol=1e-3)


@kinds
def test_the_same_seed_gives_the_same_weights(network: NetworkSpec) -> None:
    first, second, other = (build_backbone(network, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_segresnet_computes_what_monais_network_computes() -> None:
    backbone = built(SEGRESNET)
    monai = SegResNet(init_filters=8, out_channels=3).eval()
    theirs = {name.removeprefix("segresnet."): tensor for name, tensor in backbone.state_dict().items()}
    left = monai.load_state_dict(theirs, strict=False)
    assert left.missing_keys == ["conv_final.2.conv.weight", "conv_final.2.conv.bias"] and not left.unexpected_keys
    with torch.no_grad():
        features = backbone.read_out(image(24, 16, 32))
        assert torch.equal(monai.conv_final[2](features.decoder), monai(image(24, 16, 32)))
    assert [level.shape[1] for level in features.encoder] == [8, 16, 32, 64]


def test_genesis_unet_normalises_as_the_published_batch_normalisation_does_with_one_patch() -> None:
    backbone = built(GENESIS)
    published = copy.deepcopy(backbone).train()
    for name, norm in list(published.named_modules()):
        if isinstance(norm, nn.InstanceNorm3d):
            batch_norm = nn.BatchNorm3d(norm.num_features)
            batch_norm.load_state_dict(norm.state_dict(), strict=False)
            published.set_submodule(name, batch_norm)
    with torch.no_grad():
        features, theirs = backbone.eval().read_out(image(24, 16, 32)), published.read_out(image(24, 16, 32))
    torch.testing.assert_close(features.decoder, theirs.decoder, rtol=1e-4, atol=1e-5)
    assert [level.shape[1] for level in features.encoder] == [4, 8, 16, 32]


def test_stu_net_computes_what_its_paper_draws() -> None:
    backbone, x = built(STU), image(32, 64, 32)
    weights = dict(backbone.named_parameters())

    def conv(x: Tensor, name: str, step: tuple[int, ...] = (1, 1, 1)) -> Tensor:
        weight = weights[f"{name}.weight"]
        return functional.conv3d(x, weight, weights[f"{name}.bias"], step, padding=weight.shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.instance_norm(x, weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"])

    def block(x: Tensor, name: str, step: tuple[int, ...]) -> Tensor:
        y = functional.leaky_relu(norm(conv(x, f"{name}.conv1", step), f"{name}.norm1"), 0.01)
        y = norm(conv(y, f"{name}.conv2"), f"{name}.norm2")
        return functional.leaky_relu(
            y + (conv(x, f"{name}.conv3", step) if f"{name}.conv3.weight" in weights else x), 0.01
        )

    def stage(x: Tensor, name: str, step: tuple[int, ...] = (1, 1, 1)) -> Tensor:
        return block(block(x, f"{name}.0", step), f"{name}.1", (1, 1, 1))

    with torch.no_grad():
        features = backbone.read_out(x)
        skips = []
        for number, step in enumerate(((1, 1, 1), *STU.steps)):
            x = stage(x, f"conv_blocks_context.{number}", step)
            skips.append(x)
        for number, step in enumerate(reversed(STU.steps)):
            repeated = functional.interpolate(x, scale_factor=tuple(map(float, step)), mode="nearest")
            joined = torch.cat([conv(repeated, f"upsample_layers.{number}.conv"), skips[-2 - number]], dim=1)
            x = stage(joined, f"conv_blocks_localization.{number}")
    torch.testing.assert_close(features.decoder, x, rtol=1e-4, atol=1e-5)
    assert [tuple(level.shape[1:]) for level in features.encoder[-2:]] == [(6, 2, 4, 2), (8, 2, 4, 1)]


def test_descriptions_that_no_network_can_have_are_refused() -> None:
    with pytest.raises(ValidationError, match="6 stages need 5 steps"):
        STUNetDescription(steps=((2, 2, 2),) * 4)
    with pytest.raises(ValidationError, match="4 levels need 3 steps up"):
        SegResNetDescription(blocks_up=(1, 1))
    with pytest.raises(ValidationError, match="multiple of 8"):
        SegResNetDescription(filters=12)
