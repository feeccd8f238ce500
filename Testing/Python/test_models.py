"""Networks, the pretext task, LoRA, and versions on disk."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_samples import LABELS
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora.layer import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.models import compute, weights
from MedSeqFTLib.models.compute import choose_compute, device_problem
from MedSeqFTLib.models.head import build_head
from MedSeqFTLib.models.lora import WEIGHTS, attach_lora, load_adapter, merge, save_adapter
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.pretext.masked import MaskedReconstruction, block_mask
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription, ResidualUNetDescription
from MedSeqFTLib.workspace.schema import ModelVersion, Percentile, TaskPlan
from MedSeqFTLib.workspace.workspace import Workspace

SMALL = ResidualUNetDescription(channels=(4, 8, 16), decoder_features=4)
IMAGE = torch.randn((2, 1, 16, 16, 16), generator=torch.Generator().manual_seed(0))


def test_the_backbone_computes_what_monais_network_computes() -> None:
    backbone = build_backbone(SMALL, seed=0)
    features = backbone(IMAGE)
    assert torch.equal(features.decoder, backbone.unet(IMAGE))
    assert [tuple(level.shape[1:]) for level in features.encoder] == [(4, 8, 8, 8), (8, 4, 4, 4), (16, 4, 4, 4)]


def test_a_sample_alone_gives_what_it_gives_in_company() -> None:
    """On a CPU it is computed twice, because that takes less time than once."""
    backbone = build_backbone(SMALL, seed=0)
    alone, together = backbone(IMAGE[:1]), backbone(IMAGE)
    for one, two in zip((*alone.encoder, alone.decoder), (*together.encoder, together.decoder), strict=True):
        assert one.shape[0] == 1
        assert torch.allclose(one, two[:1], atol=1e-5)
    kernel = next(p for p in backbone.parameters() if p.ndim == 5)
    once, again = (torch.autograd.grad(f.decoder[:1].square().sum(), kernel)[0] for f in (alone, together))
    assert torch.allclose(once, again, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 2])
def test_the_encoder_alone_gives_what_it_gives_in_the_whole_network(samples: int) -> None:
    backbone = build_backbone(ResidualUNetDescription(), 0).eval()
    image = torch.rand((samples, 1, 32, 32, 32)) * 2 - 1
    with torch.inference_mode():
        alone, whole = backbone.encoder_features(image), backbone(image).encoder
    assert all(torch.equal(a, w) for a, w in zip(alone, whole, strict=True))


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (build_backbone(SMALL, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_masks_hide_exactly_the_share_asked_for() -> None:
    mask = block_mask((16, 24, 32), block=8, ratio=0.6, seed=(1, 2))
    assert mask.shape == (1, 16, 24, 32)
    blocks = mask[0, ::8, ::8, ::8]
    assert blocks.sum() == round(0.6 * 24)
    assert torch.equal(blocks.repeat_interleave(8, 0).repeat_interleave(8, 1).repeat_interleave(8, 2), mask[0])
    assert torch.equal(mask, block_mask((16, 24, 32), 8, 0.6, (1, 2)))
    assert not torch.equal(mask, block_mask((16, 24, 32), 8, 0.6, (1, 3)))


def small_pretext() -> MaskedReconstruction:
    pretext = build_pretext(MaskedReconstructionDescription(block=4), SMALL, 0)
    assert isinstance(pretext, MaskedReconstruction)
    return pretext


def test_a_pretext_loss_does_not_depend_on_the_rest_of_the_batch() -> None:
    backbone, pretext = build_backbone(SMALL, 0).eval(), small_pretext()
    together = pretext(backbone, IMAGE, [(0,), (1,)])
    alone = torch.cat([pretext(backbone, IMAGE[i : i + 1], [(i,)]) for i in range(2)])
    assert torch.allclose(together, alone, rtol=1e-5)
    assert not torch.allclose(pretext(backbone, IMAGE, [(2,), (3,)]), together)


def test_hidden_voxels_do_not_reach_the_network() -> None:
    backbone, pretext = build_backbone(SMALL, 0).eval(), small_pretext()
    mask = block_mask((16, 16, 16), 4, 0.5, (3,))[None]
    seen = []
    read_out = backbone.read_out
    backbone.read_out = lambda image: seen.append(image) or read_out(image)  # type: ignore[method-assign,func-returns-value]
    before = pretext.masked_loss(backbone, IMAGE[:1], mask)
    after = pretext.masked_loss(backbone, torch.where(mask, IMAGE[:1] + 5, IMAGE[:1]), mask)
    assert torch.equal(*seen)  # what is hidden reaches the target only
    assert (after - before).abs() > 1


def test_images_reach_the_network_with_the_values_and_axes_of_its_weights() -> None:
    """z, y, x towards S, P, L becomes x, y, z towards R, A, S, and the decoder's features come back."""
    turned = ResidualUNetDescription(channels=(4, 8, 16), decoder_features=4, axes="xyz-RAS", values=(0, 1))
    backbone, plain = build_backbone(turned, 0), build_backbone(SMALL, 0)
    image = IMAGE[:, :, :8]
    expected = backbone.expected(image)
    assert expected.shape == (2, 1, 16, 16, 8)
    assert torch.allclose(expected[0, 0, 3, 5, 7], (image[0, 0, 7, 16 - 1 - 5, 16 - 1 - 3] + 1) / 2)
    found = backbone(image).decoder
    assert torch.allclose(found, plain.read_out(expected).decoder.flip(2, 3).transpose(2, 4))
    assert found.shape == (2, 4, 8, 16, 16)


def adapted(seed: int = 0):  # type: ignore[no-untyped-def]
    student = attach_lora(build_backbone(SMALL, 0), rank=2, alpha=4, seed=seed, base="M0")
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
    return student.eval()


def test_lora_reaches_every_convolution_and_every_adapter_learns() -> None:
    student = attach_lora(build_backbone(SMALL, 0), rank=2, alpha=4, seed=0)
    convolutions = [m for m in build_backbone(SMALL, 0).modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    layers = [module for module in student.modules() if isinstance(module, LoraLayer)]
    assert len(layers) == len(convolutions)
    assert {1, 3} <= {m.kernel_size[0] for m in convolutions}  # pointwise ones, too
    student(IMAGE).decoder.square().mean().backward()
    trainable = {name: p for name, p in student.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trainable)
    for name, parameter in trainable.items():
        if "lora_B" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_a_fresh_or_disabled_adapter_changes_nothing() -> None:
    plain = build_backbone(SMALL, 0)(IMAGE)
    fresh = attach_lora(build_backbone(SMALL, 0), 2, 4, seed=1)(IMAGE)
    assert torch.equal(fresh.decoder, plain.decoder)
    student = adapted()
    with student.disable_adapter():
        assert torch.equal(student(IMAGE).decoder, plain.decoder)
    assert not torch.allclose(student(IMAGE).decoder, plain.decoder, atol=0.01)


def test_merged_equals_unmerged_and_has_the_plain_names() -> None:
    student = adapted()
    with torch.no_grad():
        unmerged = student(IMAGE)
        merged_backbone = merge(student)
        merged = merged_backbone(IMAGE)
    assert list(merged_backbone.state_dict()) == list(build_backbone(SMALL, 0).state_dict())
    for a, b in zip((*unmerged.encoder, unmerged.decoder), (*merged.encoder, merged.decoder), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_change_has_the_rank_of_the_adapter() -> None:
    before, after = build_backbone(SMALL, 0).state_dict(), merge(adapted()).state_dict()
    name = "unet.model.1.submodule.0.conv.unit1.conv.weight"
    change = (after[name] - before[name]).flatten(1)
    assert torch.linalg.matrix_rank(change, rtol=1e-4) == 2


def test_the_adapter_file_is_one_that_peft_reads(tmp_path: Path) -> None:
    """peft's own layers take the tensors of the Conv3d adapters and compute the same features."""
    student = adapted()
    save_adapter(student, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 4)
    assert config["base_model_name_or_path"] == "M0"
    convolution = nn.Conv3d(4, 4, 3, padding=1)
    ours = nn.Sequential(copy.deepcopy(convolution))
    theirs = get_peft_model(ours, LoraConfig(r=2, lora_alpha=4, target_modules=["0"]))
    prefix = "base_model.model.unet.model.0.conv.unit1.conv."
    tensors = {
        name.replace(prefix, "base_model.model.0."): tensor
        for name, tensor in load_file(tmp_path / "adapter" / WEIGHTS).items()
        if name.startswith(prefix)
    }
    assert len(tensors) == 2
    assert not set_peft_model_state_dict(theirs, tensors).unexpected_keys
    a, b = (tensors[f"base_model.model.0.lora_{letter}.weight"] for letter in "AB")
    weight = convolution.weight + 2 * torch.einsum("rizyx,or->oizyx", a, b.flatten(1))
    image = torch.randn(1, 4, 8, 8, 8)
    expected = nn.functional.conv3d(image, weight, convolution.bias, padding=1)
    assert torch.allclose(theirs(image), expected, atol=1e-5)


def test_the_device_is_tried_before_it_is_used() -> None:
    assert device_problem(torch.device("cpu")) is None
    assert choose_compute("cpu", "float32").dtype is torch.float32
    assert choose_compute("cpu", "auto").dtype in (torch.float32, torch.bfloat16)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="Device 'cuda' cannot be used: this PyTorch .* finds no such device"):
            choose_compute("cuda")


BFLOAT16 = compute.Compute(torch.device("cpu"), torch.bfloat16)
CPU_FLOAT32 = compute.Compute(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 32, 32), (32, 32, 32)])
def test_gradients_are_right_in_the_precision_that_is_trained_in(patch: tuple[int, int, int]) -> None:
    """Not so in bfloat16, with torch 2.13 on some processors, where a feature map is two voxels deep."""
    network = ResidualUNetDescription()
    chosen, image = compute.right_precision(BFLOAT16, network, [patch]), torch.rand(2, 1, *patch)
    backbone = build_backbone(network, 1)
    kernel = [p for p in backbone.parameters() if p.ndim == 5 and p.shape[0] == 128][-1]  # in the deepest layer
    with chosen.autocast():
        result = backbone(image).decoder.float()
    found, wanted = (
        torch.autograd.grad(decoder.square().mean(), kernel)[0] for decoder in (result, backbone(image).decoder)
    )
    assert float((found - wanted).norm()) < 0.5 * float(wanted.norm())


@pytest.mark.parametrize(("error", "expected"), [(0.2, "bfloat16"), (1.0, "float32"), (float("nan"), "float32")])
def test_wrong_gradients_lead_to_float32(monkeypatch: pytest.MonkeyPatch, error: float, expected: str) -> None:
    """Stands for a processor whose bfloat16 is that far off; which ones are cannot be chosen here."""

    def gradients(_: object, kernels: Sequence[nn.Parameter], __: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return tuple(p.detach() * (1 + error if dtype is torch.bfloat16 else 1) for p in kernels)

    monkeypatch.setattr(compute, "_gradients", gradients)
    compute._bfloat16_is_right.cache_clear()
    assert compute.right_precision(BFLOAT16, SMALL, [(16, 16, 16)]).precision == expected
    assert compute.right_precision(CPU_FLOAT32, SMALL, [(16, 16, 16)]) is CPU_FLOAT32
    compute._bfloat16_is_right.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_automatic_choice_takes_the_gpu() -> None:
    assert choose_compute().device.type == "cuda"


PLAN = TaskPlan(labels=LABELS, intensity=Percentile(), spacing=(1, 1, 1), patch=(16, 16, 16))


def published(folder: Path) -> tuple[Workspace, ModelVersion]:
    workspace = Workspace.create(folder / "workspace")
    backbone, head = build_backbone(SMALL, 3), build_head(SMALL, 3, 4)
    with workspace.staging() as staging:
        weights.save_module(backbone, staging / weights.TASK_BACKBONE)
        weights.save_module(head, staging / weights.task_head("balls"))
        version = ModelVersion(
            id="M0",
            kind="adapted",
            parent=None,
            task="balls",
            job=None,
            network=SMALL,
            plans={"balls": PLAN},
            files=weights.file_hashes(staging),
        )
        return workspace, workspace.publish(version, staging)


def test_a_version_read_back_is_the_version_written(tmp_path: Path) -> None:
    workspace, version = published(tmp_path)
    backbone, head = weights.load_task_model(workspace, version)
    features = build_backbone(SMALL, 3)(IMAGE)
    assert torch.equal(backbone(IMAGE).decoder, features.decoder)
    assert torch.equal(head(features), build_head(SMALL, 3, 4)(features))


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    workspace, version = published(tmp_path)
    path = workspace.version_folder("M0") / weights.TASK_BACKBONE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WorkspaceError, match=r"task-backbone\.safetensors is damaged"):
        weights.load_task_model(workspace, version)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    workspace, version = published(tmp_path)
    wider = version.model_copy(update={"network": ResidualUNetDescription(channels=(8, 16, 32), decoder_features=4)})
    with pytest.raises(WorkspaceError, match="does not fit the network that M0 declares"):
        weights.load_task_model(workspace, wider)


def test_a_mask_is_the_same_on_every_platform() -> None:
    mask = block_mask((8, 8, 8), 4, 0.5, (0,))
    assert (
        np.flatnonzero(mask[0, ::4, ::4, ::4]).tolist()
        == np.flatnonzero(np.isin(np.arange(8), np.random.default_rng((0,)).permutation(8)[:4])).tolist()
    )


def test_a_damaged_adapter_configuration_is_named(tmp_path: Path) -> None:
    """One that peft tries to read for ever, and one of another method."""
    student, folder = attach_lora(build_backbone(SMALL, 0), rank=2, alpha=4, seed=0), tmp_path / "adapter"
    save_adapter(student, folder)
    path = folder / "adapter_config.json"
    sound = json.loads(path.read_text(encoding="utf-8"))
    for changes in ({"monteclora_config": {"schema_version": 1}}, {"peft_type": "none"}):
        path.write_text(json.dumps(sound | changes), encoding="utf-8")
        with pytest.raises(WorkspaceError, match="is missing or damaged"):
            load_adapter(student, folder)
