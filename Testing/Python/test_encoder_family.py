"""nnU-Net's residual encoder U-Net, the vision transformer, and the masked autoencoder over tokens."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.catalogue import BACKBONE, PRETEXT, catalogue
from MedSeqFTLib.models.lora import attach_lora
from MedSeqFTLib.models.mapping import coverage, renamed
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.networks.vit import Block, ViT, interpolated
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.pretext.base import Pretext
from MedSeqFTLib.models.pretext.token_mae import TokenMAE, visible_tokens
from MedSeqFTLib.workspace.networks import (
    MaskedReconstructionDescription,
    NetworkSpec,
    PretextSpec,
    ResidualEncoderUNetDescription,
    TokenMAEDescription,
    ViTDescription,
)

FIXTURES = Path(__file__).parent / "fixtures" / "foundation"
RESENC = ResidualEncoderUNetDescription(channels=(4, 4, 6, 6), blocks=(1, 2, 1, 1), values=(-5, 10))
VIT = ViTDescription(width=24, depth=4, heads=2, decoder_features=4, grid=(1, 2, 3), positions=10, slabs=2)
BLOCKS = MaskedReconstructionDescription(ratio=0.75, block=16, fill="zero", activation=False)
TOKENS = TokenMAEDescription(width=16, depth=2, heads=4)
PAIRS = pytest.mark.parametrize(("network", "pretext"), [(RESENC, BLOCKS), (VIT, TOKENS)], ids=["resenc", "vit"])


def crops(batch: int) -> Tensor:
    return torch.rand(batch, 1, 16, 32, 48, generator=torch.Generator().manual_seed(5)) * 2 - 1


def shapes(module: nn.Module, prefix: str) -> dict[str, tuple[int, ...]]:
    return {prefix + name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", ["openmind-resenc-l-mae", "medcoss-vit-b-mae"])
def test_all_of_a_published_file_is_accounted_for(name: str) -> None:
    model = catalogue().model(name)
    fixture = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    assert model.pretext is not None and tuple(fixture["container"]) == model.container
    with torch.device("meta"):
        backbone, pretext = build_backbone(model.network, 0), build_pretext(model.pretext, model.network, 0)
    expected = {**shapes(backbone, BACKBONE), **shapes(pretext, PRETEXT)}
    found = coverage(model, {key: tuple(shape) for key, shape in fixture["tensors"].items()}, expected)
    assert found.complete and found.encoder[0] > 100
    assert not found.unexpected
    assert all(key.startswith("backbone.decoder.") for key in found.missing), "only UNETR's decoder starts afresh"
    assert all(found.dropped.values()), "every tensor left out has a reason"


@pytest.mark.parametrize("network", [RESENC, VIT], ids=["resenc", "vit"])
def test_every_module_has_one_name_and_every_parameter_takes_part(network: NetworkSpec) -> None:
    backbone = build_backbone(network, 0)
    modules = [module for _, module in backbone.named_modules(remove_duplicate=False)]
    assert len(modules) == len(set(map(id, modules)))
    features = backbone(crops(1))
    assert features.decoder.shape == (1, network.features, 16, 32, 48)
    features.decoder.square().sum().backward()
    assert not [name for name, parameter in backbone.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("network", [RESENC, VIT], ids=["resenc", "vit"])
def test_lora_reaches_the_layers_that_forward_uses(network: NetworkSpec) -> None:
    adapted = attach_lora(build_backbone(network, 0), rank=2, alpha=2, seed=0)
    adapted(crops(1)).decoder.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in adapted.named_parameters() if "lora_B" in name}
    assert len(gradients) > 15
    assert not [name for name, grad in gradients.items() if grad is None or not grad.abs().sum() > 0]


@PAIRS
def test_a_loss_depends_on_crop_and_seed_alone(network: NetworkSpec, pretext: PretextSpec) -> None:
    backbone, objective = build_backbone(network, 1), build_pretext(pretext, network, 2)
    together = losses(objective, backbone, crops(3), [(1, 7), (2, 7), (3, 7)])
    assert together.shape == (3,) and together.dtype == torch.float32 and torch.isfinite(together).all()
    alone = losses(objective, backbone, crops(3)[1:2], [(2, 7)])
    torch.testing.assert_close(alone, together[1:2])
    again = losses(build_pretext(pretext, network, 2), build_backbone(network, 1), crops(3)[1:2], [(2, 7)])
    assert torch.equal(again, alone)
    assert not torch.allclose(losses(objective, backbone, crops(3)[1:2], [(2, 8)]), alone)


def losses(objective: Pretext, backbone: Backbone, images: Tensor, seeds: list[tuple[int, ...]]) -> Tensor:
    with torch.no_grad():
        return objective(backbone, images, seeds)


# Residual encoder U-Net


def test_resenc_computes_what_the_published_package_computes() -> None:
    """The rules of the catalogue bring a state dict of the package, with its aliases, to our network and head."""
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet as PublishedUNet

    torch.manual_seed(0)
    norm = {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
    layout = {**norm, "nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}, "conv_bias": True}
    channels, blocks, strides = (4, 4, 6, 6, 8, 8), (1, 2, 1, 1, 1, 1), (1, 2, 2, 2, 2, 2)
    published = PublishedUNet(1, 6, channels, nn.Conv3d, 3, strides, blocks, 1, 1, **layout)
    for parameter in published.parameters():
        nn.init.normal_(parameter, std=0.3)
    network = ResidualEncoderUNetDescription(channels=channels, blocks=blocks)
    backbone, objective = build_backbone(network, 0), build_pretext(BLOCKS, network, 0)
    file = published.state_dict()
    names = renamed(file, catalogue().model("openmind-resenc-l-mae").rules)
    assert not names.left and len(file) > 3 * len(names.ours)
    load(backbone, BACKBONE, names.ours, file)
    load(objective, PRETEXT, names.ours, file)
    image = torch.rand(1, 1, 64, 64, 64)
    with torch.no_grad():
        restored = objective.reconstruct(backbone.read_out(image).decoder)
        torch.testing.assert_close(restored, published(image))


def load(module: nn.Module, prefix: str, names: dict[str, str], file: dict[str, Tensor]) -> None:
    module.load_state_dict(
        {ours.removeprefix(prefix): file[theirs] for ours, theirs in names.items() if prefix in ours}
    )


def test_resenc_features_are_ordered_finest_first() -> None:
    features = build_backbone(RESENC, 0)(crops(1))
    sides = [(16, 32, 48), (8, 16, 24), (4, 8, 12), (2, 4, 6)]
    assert [tuple(level.shape) for level in features.encoder] == [
        (1, width, *side) for width, side in zip(RESENC.channels, sides, strict=True)
    ]


def test_without_its_package_resenc_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("dynamic_network_architectures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)
    monkeypatch.delitem(sys.modules, "MedSeqFTLib.models.networks.residual_encoder_unet", raising=False)
    with pytest.raises(InputError, match="pip install --no-deps 'dynamic-network-architectures"):
        importlib.import_module("MedSeqFTLib.models.networks.residual_encoder_unet")


# Vision transformer


def test_attention_reads_fused_weights_as_queries_keys_values() -> None:
    """The published encoder keeps them as torch's attention does, its decoder as timm does: both in this order."""
    torch.manual_seed(0)
    block, x = Block(12, 3, 1e-5), torch.randn(2, 5, 12)
    weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
    q, k, v = (
        (x @ w.T + b).unflatten(2, (3, 4)).transpose(1, 2) for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True)
    )
    mixed = ((q @ k.transpose(2, 3) / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block.attn(x), block.attn.out_proj(mixed))
    torch_attention = nn.MultiheadAttention(12, 3, batch_first=True)
    torch_attention.load_state_dict(
        {
            "in_proj_weight": weight,
            "in_proj_bias": bias,
            "out_proj.weight": block.attn.out_proj.weight,
            "out_proj.bias": block.attn.out_proj.bias,
        }
    )
    torch.testing.assert_close(block.attn(x), torch_attention(x, x, x)[0])


def test_vit_features_are_volumes_of_tokens_shallowest_first() -> None:
    backbone = build_backbone(VIT, 0)
    assert isinstance(backbone, ViT)
    image = crops(2)
    features = backbone.read_out(image)
    assert [tuple(level.shape) for level in features.encoder] == [(2, 24, 1, 2, 3)] * 4
    states = backbone.hidden_states(backbone.tokens(image))
    torch.testing.assert_close(features.encoder[-1][1, :, 0, 1, 2], states[-1][1, 6])
    torch.testing.assert_close(features.encoder[0][1, :, 0, 0, 1], states[1][1, 2])


def test_positions_fit_every_grid() -> None:
    backbone = build_backbone(VIT, 0)
    assert isinstance(backbone, ViT)
    nothing = torch.zeros(1, 1, 48, 32, 48)  # deeper than the table of slabs
    with torch.no_grad():
        backbone.embed.bias.zero_()
        trained = backbone.embed_norm(backbone.positions[:6] + backbone.slabs[0])
        torch.testing.assert_close(backbone.tokens(nothing[:, :, :16])[0], trained)
        deeper = backbone.tokens(nothing)[0].unflatten(0, (3, 6))
    torch.testing.assert_close(deeper[0], trained)
    assert not torch.allclose(deeper[0], deeper[1]), "layers of tokens along z are told apart"
    table = torch.arange(6.0)[:, None].repeat(1, 2)
    wider = interpolated(table, (1, 2, 3), (1, 4, 6))
    assert wider.shape == (24, 2) and wider.min() == 0 and wider.max() == 5


# Masked autoencoder over tokens


def test_hidden_tokens_never_enter_the_encoder() -> None:
    """Their voxels are normalised before they are compared, so a loss that does not see them ignores their contrast."""
    backbone, objective = build_backbone(VIT, 1), build_pretext(TOKENS, VIT, 2)
    image, seed = crops(1), (4,)
    shown = visible_tokens(6, TOKENS.ratio, seed).tolist()
    hidden = [token for token in range(6) if token not in shown]
    expected = losses(objective, backbone, image, [seed])
    torch.testing.assert_close(losses(objective, backbone, changed(image, hidden), [seed]), expected)
    assert not torch.allclose(losses(objective, backbone, changed(image, shown), [seed]), expected)


def changed(image: Tensor, tokens: list[int]) -> Tensor:
    """The image with another contrast in these of its 1 x 2 x 3 tokens."""
    image = image.clone()
    for token in tokens:
        y, x = 16 * (token // 3), 16 * (token % 3)
        image[..., y : y + 16, x : x + 16] *= 3
        image[..., y : y + 16, x : x + 16] += 0.1
    return image


def test_predicting_nothing_costs_the_variance_of_normalised_tokens() -> None:
    backbone, objective = build_backbone(VIT, 1), build_pretext(TOKENS, VIT, 2)
    assert isinstance(objective, TokenMAE)
    nn.init.zeros_(objective.predict.weight)
    nn.init.zeros_(objective.predict.bias)
    # The variance divides by one voxel less than there are, as in the published loss.
    torch.testing.assert_close(
        losses(objective, backbone, crops(1), [(1,)]), torch.tensor([4095 / 4096]), rtol=1e-4, atol=0
    )


def test_every_parameter_of_the_token_decoder_is_trained() -> None:
    backbone, objective = build_backbone(VIT, 1), build_pretext(TOKENS, VIT, 2)
    objective(backbone, crops(1), [(1,)]).sum().backward()
    assert not [name for name, parameter in objective.named_parameters() if parameter.grad is None]
    untouched = {name.partition(".")[0] for name, parameter in backbone.named_parameters() if parameter.grad is None}
    assert untouched == {"decoder"}, "UNETR's decoder has no part in this objective"


@pytest.mark.parametrize(("count", "kept"), [(144, 36), (6, 1), (2, 1)])
def test_visible_tokens(count: int, kept: int) -> None:
    shown = visible_tokens(count, 0.75, (3, 9))
    assert len(shown) == kept and len(set(shown.tolist())) == kept and shown.min() >= 0 and shown.max() < count
    assert torch.equal(shown, visible_tokens(count, 0.75, (3, 9)))


def test_a_masked_autoencoder_over_tokens_needs_a_transformer() -> None:
    with pytest.raises(InputError, match="needs a vision transformer, not 'residual-encoder-unet'"):
        build_pretext(TOKENS, RESENC, 0)
