"""Loss landscapes and parameter variation, where the right answer is known."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.evaluation.analysis_files import landscape_files, variation_files
from MedSeqFTLib.evaluation.analysis_pictures import contour_picture, curve_picture, variation_picture
from MedSeqFTLib.evaluation.filters import by_filter, transposed_weights
from MedSeqFTLib.evaluation.landscape import (
    Landscape,
    LandscapeSettings,
    measure_landscape,
    plane,
    random_direction,
)
from MedSeqFTLib.evaluation.variation import Variation, block_of, measure_variation, rank_of

SMALL = LandscapeSettings(seed=3, radius=0.5, extent=1.0, grid=5, curve=9, directions=8)


def a_network(seed: int = 0) -> nn.Module:
    """All kinds of parameters: a convolution, a normalisation, a transposed convolution, a linear layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv3d(2, 6, 3), nn.BatchNorm3d(6), nn.PReLU(), nn.ConvTranspose3d(6, 4, 2), nn.Flatten(), nn.Linear(8, 3)
    )


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def bits_of(module: nn.Module) -> dict[str, bytes]:
    """-0.0 and 0.0 are equal, but have other bits."""
    return {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}


# loss landscape


def quadratic(module: nn.Module, curvature: float) -> tuple[Landscape, dict[str, Tensor], dict[str, Tensor]]:
    """The landscape of curvature * ||theta - theta_0||^2 around theta_0, and the directions it was measured in."""
    start = state_of(module)

    def loss() -> float:
        return (
            sum(float((p.detach() - start[name]).square().sum()) for name, p in module.named_parameters()) * curvature
        )

    directions = [random_direction(module, SMALL.seed, number) for number in (1, 2)]
    return measure_landscape(module, loss, SMALL), directions[0], directions[1]


def test_a_quadratic_loss_has_the_landscape_that_can_be_computed() -> None:
    """L(a, b) = c (a^2 |d1|^2 + 2 a b d1 d2 + b^2 |d2|^2); over the circle, a^2 and b^2 average to r^2 / 2, ab to 0."""
    found, first, second = quadratic(a_network(), curvature=0.3)
    one, two, mixed = (
        sum(float((x[n] * y[n]).sum()) for n in first) for x, y in ((first, first), (second, second), (first, second))
    )

    def expected(a: float, b: float) -> float:
        return 0.3 * (a * a * one + 2 * a * b * mixed + b * b * two)

    positions = SMALL.grid_positions
    assert found.loss == 0
    assert found.curve == pytest.approx([expected(a, 0) for a in SMALL.curve_positions], rel=1e-4)
    assert np.array(found.grid) == pytest.approx(
        np.array([[expected(a, b) for a in positions] for b in positions]), rel=1e-4
    )
    assert found.circle == pytest.approx([expected(a, b) for a, b in SMALL.circle], rel=1e-4)
    assert found.sharpness == pytest.approx(0.3 * 0.25 * (one + two) / 2, rel=1e-4)
    assert 0 < found.spread < found.sharpness


def test_sharpness_is_the_rise_above_the_model_and_ignores_a_slope() -> None:
    """A linear loss has a slope and no curvature: its rises on opposite sides cancel."""
    module = nn.Linear(4, 4)

    def loss() -> float:
        return 7 + float(module.weight.detach().sum())

    found = measure_landscape(module, loss, SMALL)
    assert max(found.rises) > 0.1
    assert found.sharpness == pytest.approx(0, abs=1e-5)
    assert found.loss == loss()


def test_filter_norms_are_those_of_the_weights() -> None:
    module = a_network()
    direction = random_direction(module, 0, 1)
    assert set(direction) == {"0.weight", "3.weight", "5.weight"}
    for name, drawn in direction.items():
        weight = module.get_parameter(name)
        assert drawn.shape == weight.shape
        ours, theirs = (by_filter(tensor, name == "3.weight").norm(dim=1) for tensor in (drawn, weight))
        assert torch.allclose(ours, theirs, rtol=1e-5)
        assert not torch.allclose(drawn, weight)


def test_the_filters_of_a_transposed_convolution_lie_along_axis_1() -> None:
    module = nn.ConvTranspose3d(5, 3, 2)
    assert transposed_weights(module) == {"weight"}
    with torch.no_grad():
        module.weight[:, 1] = 0
    direction = random_direction(module, 0, 1)["weight"]
    assert not direction[:, 1].any()
    assert direction[:, [0, 2]].all()
    assert by_filter(module.weight, True).shape == (3, 5 * 8)
    with pytest.raises(NotImplementedError, match="transposed convolution in groups: 0"):
        transposed_weights(nn.Sequential(nn.ConvTranspose3d(4, 4, 2, groups=2)))


def test_biases_and_normalisation_do_not_move() -> None:
    module = a_network()
    before = state_of(module)
    with plane(module, seed=0) as move:
        move(0.7, -0.3)
        moved = {name for name, parameter in module.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"0.weight", "3.weight", "5.weight"}


def test_models_of_the_same_shapes_move_along_the_same_draws() -> None:
    """The directions differ in the norm of each filter and in nothing else; seeds, directions and names differ."""
    one, two = random_direction(a_network(0), 5, 1), random_direction(a_network(1), 5, 1)
    for name in one:
        ours, theirs = (by_filter(direction[name], name == "3.weight") for direction in (one, two))
        assert torch.allclose(nn.functional.normalize(ours), nn.functional.normalize(theirs), atol=1e-6)
        assert not torch.allclose(ours, theirs)
    others = (random_direction(a_network(0), 6, 1), random_direction(a_network(0), 5, 2))
    assert not any(torch.allclose(one["0.weight"], other["0.weight"]) for other in others)
    parts = random_direction({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}, 0, 1)
    assert set(parts) == {"a.weight", "b.weight"}
    ours, theirs = (nn.functional.normalize(direction) for direction in parts.values())
    assert not torch.allclose(ours, theirs)


def test_a_shared_parameter_moves_once() -> None:
    shared = nn.Linear(3, 3)
    assert set(random_direction({"a": shared, "b": nn.Sequential(shared)}, 0, 1)) == {"a.weight"}


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_weights_are_restored_to_the_bit(error: type[BaseException] | None) -> None:
    module = a_network()
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0, :] = torch.tensor([-0.0, 1e-40, 3.0])  # type: ignore[index, union-attr]
    before, calls = bits_of(module), 0

    def loss() -> float:
        nonlocal calls
        calls += 1
        if error and calls == 7:
            assert bits_of(module) != before
            raise error
        return 1.0

    if error:
        with pytest.raises(error):
            measure_landscape(module, loss, SMALL)
    else:
        measure_landscape(module, loss, SMALL)
    assert bits_of(module) == before
    assert calls == 7 if error else calls > 7


def test_progress_counts_every_point_once_and_can_cancel() -> None:
    module, told, calls = nn.Linear(3, 3), list[tuple[int, int]](), 0

    def loss() -> float:
        nonlocal calls
        calls += 1
        assert not torch.is_grad_enabled()
        return 0.0

    measure_landscape(module, loss, SMALL, lambda done, total: told.append((done, total)))
    # 9 on the curve, which the grid's middle row shares; 20 more on the grid; 8 on the circle, some of them shared
    assert 9 + 20 + 8 - 4 <= calls <= 9 + 20 + 8
    assert told == [(done, calls) for done in range(1, calls + 1)]
    before = bits_of(module)

    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_landscape(module, loss, SMALL, cancel)
    assert bits_of(module) == before


@pytest.mark.parametrize(
    "change",
    [{"grid": 4}, {"curve": 1}, {"directions": 3}, {"radius": 0.0}, {"radius": math.nan}, {"extent": math.inf}],
)
def test_settings_that_cannot_be_measured_are_refused(change: Mapping[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(change))} is .*; expected"):
        replace(SMALL, **change)  # type: ignore[arg-type]


# parameter variation


def changed(state: Mapping[str, Tensor], **changes: Tensor) -> dict[str, Tensor]:
    return {**state, **{name.replace("_", "."): state[name.replace("_", ".")] + by for name, by in changes.items()}}


def test_relative_change_of_layers_blocks_and_the_whole() -> None:
    reference = {"a1.weight": torch.ones(2, 8), "a1.bias": torch.zeros(9), "b2.weight": torch.ones(9)}
    moved = {"a1.weight": torch.full((2, 8), 1.75), "a1.bias": torch.full((9,), 4 / 3), "b2.weight": torch.ones(9) * 2}
    found = measure_variation(moved, reference)
    assert [(layer.layer, layer.parameters, layer.reference) for layer in found.layers] == [("a1", 25, 4), ("b2", 9, 3)]
    assert [layer.relative for layer in found.layers] == pytest.approx([5 / 4, 1])  # 3 of the weight, 4 of the bias
    assert [block.relative for block in found.blocks] == pytest.approx([5 / 4, 1])
    assert found.whole.relative == pytest.approx(math.sqrt(25 + 9) / 5)
    assert found.whole.parameters == 34


def test_nothing_changed() -> None:
    found = measure_variation(a_network().state_dict(), a_network().state_dict())
    assert found.whole.relative == 0
    assert found.whole.rank_share == found.whole.effective_rank_share == 0


def test_what_was_zero_has_no_relative_change() -> None:
    found = measure_variation({"a.weight": torch.ones(2, 2)}, {"a.weight": torch.zeros(2, 2)})
    assert found.layers[0].relative is None
    assert found.whole.relative is None
    assert json.loads(variation_files({"M1": found}, {})["variation.json"])["models"]["M1"]["whole"]["relative"] is None


def test_a_low_rank_change_has_that_rank() -> None:
    """Even after the sum was rounded to float32, and for a transposed convolution along its own axis."""
    module = nn.Sequential(nn.Conv3d(8, 16, 3), nn.ConvTranspose3d(12, 16, 2), nn.Linear(20, 10))
    reference = state_of(module)
    generator = torch.Generator().manual_seed(0)
    weights = dict(reference)
    for name, rank, equation in (("0", 3, "or,ri->oi"), ("1", 4, "or,ri->oi"), ("2", 10, "or,ri->oi")):
        flat = by_filter(reference[f"{name}.weight"], name == "1")
        parts = (
            torch.randn(flat.shape[0], rank, generator=generator),
            torch.randn(rank, flat.shape[1], generator=generator),
        )
        change = 1e-3 * torch.einsum(equation, *parts)
        if name == "1":
            change = change.view(16, 12, 2, 2, 2).transpose(0, 1)
        weights[f"{name}.weight"] = reference[f"{name}.weight"] + change.reshape(reference[f"{name}.weight"].shape)
    found = measure_variation(weights, reference, transposed_weights(module))
    ranks = [layer.rank for layer in found.layers]
    assert [(rank.full, rank.numerical) for rank in ranks if rank] == [(16, 3), (16, 4), (10, 10)]
    assert all(1 < rank.effective <= rank.numerical + 0.1 for rank in ranks if rank)
    wrong = measure_variation(weights, reference).layers[1].rank
    assert wrong is not None
    assert wrong.numerical == 12  # flattened along the wrong axis, the change has full rank


def test_effective_rank_counts_equal_directions() -> None:
    equal = rank_of(torch.diag(torch.tensor([2.0, 2.0, 2.0, 0.0])))
    assert (equal.full, equal.numerical) == (4, 3)
    assert equal.effective == pytest.approx(3)
    uneven = rank_of(torch.diag(torch.tensor([1.0, 0.5, 1e-4])), tolerance=1e-3)
    assert uneven.numerical == 2
    shares = np.array([1.0, 0.5, 1e-4]) / 1.5001
    assert uneven.effective == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


def test_tables_of_whole_numbers_are_left_out() -> None:
    reference = {"a.weight": torch.ones(3), "a.index": torch.arange(4)}
    assert [layer.layer for layer in measure_variation(reference, reference).layers] == ["a"]


def test_models_that_cannot_be_compared_are_refused() -> None:
    reference = {"a.weight": torch.ones(2, 2)}
    with pytest.raises(InputError, match=r"only one of them has b\.bias"):
        measure_variation({**reference, "b.bias": torch.ones(1)}, reference)
    with pytest.raises(InputError, match=r"a\.weight is \(2, 3\) in one and \(2, 2\) in the other"):
        measure_variation({"a.weight": torch.ones(2, 3)}, reference)
    with pytest.raises(InputError, match=r"a\.weight holds values that are not finite"):
        measure_variation({"a.weight": torch.full((2, 2), math.nan)}, reference)


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("unet.model.0.conv.unit0.conv", "down 1"),
        ("unet.model.1.submodule.1.submodule.0.residual", "down 3"),
        ("unet.model.1.submodule.1.submodule.1.submodule.conv.unit1.adn.A", "bottom 4"),
        ("unet.model.1.submodule.2.1.conv.unit0.conv", "up 2"),
        ("unet.model.2.0.conv", "up 1"),
        ("unetr.swinViT.patch_embed.proj", "unetr.swinViT.patch_embed"),
        ("unetr.swinViT.layers1.0.blocks.0.attn.qkv", "unetr.swinViT.layers1"),
        ("unetr.encoder10.layer.conv2.conv", "unetr.encoder10"),
        ("unetr.decoder5.conv_block.conv2.conv", "unetr.decoder5"),
        ("segresnet.down_layers.3.1.norm1", "segresnet.down_layers.3"),
        ("segresnet.convInit.conv", "segresnet.convInit"),
        ("down_tr64.ops.0.conv1", "down_tr64"),
        ("conv_blocks_context.0.0.conv1", "conv_blocks_context.0"),
        ("unet.encoder.stages.2.blocks.0.conv1.all_modules.0", "unet.encoder.stages.2"),
        ("blocks.11.attn.out_proj", "blocks.11"),
        ("positions", "positions"),
    ],
)
def test_blocks_follow_the_names_of_the_networks(layer: str, block: str) -> None:
    assert block_of(layer) == block


# pictures and files


def landscapes(count: int, scale: float = 1.0) -> dict[str, Landscape]:
    def model(number: int) -> Landscape:
        def at(a: float, b: float) -> float:
            return 0.3 + scale * (1 + number) * (a * a + 2 * b * b)

        axis = SMALL.grid_positions
        curve = tuple(at(a, 0) for a in SMALL.curve_positions)
        grid = tuple(tuple(at(a, b) for a in axis) for b in axis)
        return Landscape(SMALL, at(0, 0), curve, grid, tuple(at(a, b) for a, b in SMALL.circle))

    return {f"M{number + 1}": model(number) for number in range(count)}


def variations(count: int, scale: float = 0.1) -> dict[str, Variation]:
    reference = state_of(a_network())
    floating = {name: tensor for name, tensor in reference.items() if tensor.is_floating_point()}
    return {
        f"M{n + 1}": measure_variation({k: t * (1 + scale * (n + 1)) for k, t in floating.items()}, floating)
        for n in range(count)
    }


def size_of(png: bytes) -> tuple[int, int]:
    """Of a picture that is not one single colour."""
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        colours = picture.convert("RGB").getcolors(1 << 24)
        assert colours is not None
        assert len(colours) > 20
        return picture.size


def test_pictures_show_one_to_six_models() -> None:
    assert min(size_of(curve_picture(landscapes(6)))) > 400
    one, six = (size_of(contour_picture(landscapes(count))) for count in (1, 6))
    assert 400 < one[0] < six[0]
    few, many = (size_of(variation_picture(variations(count))) for count in (1, 6))
    assert 200 < few[1] < many[1]


def test_the_same_data_give_the_same_picture_and_other_data_another() -> None:
    for draw in (curve_picture, contour_picture):
        picture = draw(landscapes(1))
        assert draw(landscapes(1)) == picture
        assert draw(landscapes(1, scale=1.2)) != picture
    assert variation_picture(variations(1)) == variation_picture(variations(1))
    other = {"M1": variations(2)["M2"]}
    assert variation_picture({**variations(1), "M2": other["M1"]}) != variation_picture({**other, "M2": other["M1"]})


def test_pictures_take_flat_steep_and_broken_landscapes_and_any_name() -> None:
    steep, flat = landscapes(1, scale=50.0)["M1"], landscapes(1, scale=0.0)["M1"]
    broken = replace(flat, grid=tuple(tuple(math.nan for _ in row) for row in flat.grid), curve=(math.inf,) * 9)
    for draw in (curve_picture, contour_picture):
        size_of(draw({"steep": steep, "flat $\\frac$": flat, "broken": broken}))
        size_of(draw({"flat": flat, "broken": broken}))
    size_of(contour_picture({"broken": broken}))


def test_pictures_that_cannot_be_drawn_are_refused() -> None:
    for draw in (curve_picture, contour_picture):
        for count in (0, 7):
            with pytest.raises(InputError, match=f"1 to 6 models, got {count}"):
                draw(landscapes(count))
    other = measure_variation({"b.weight": torch.ones(2)}, {"b.weight": torch.ones(2)})
    with pytest.raises(InputError, match="must have the same network"):
        variation_picture({**variations(1), "other": other})


def rows(table: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.decode("utf-8"))))


def test_landscape_files_hold_what_was_measured() -> None:
    found = landscapes(2)
    files = landscape_files(found, {"task": "balls"})
    assert set(files) == {"landscape.json", "landscape.csv", "curves.png", "contours.png"}
    document = json.loads(files["landscape.json"])
    assert document["task"] == "balls"
    second = document["models"]["M2"]
    assert second["sharpness"] == pytest.approx(found["M2"].sharpness)
    assert second["grid"] == [list(row) for row in found["M2"].grid]
    assert second["settings"]["radius"] == SMALL.radius
    table = rows(files["landscape.csv"])
    assert len(table) == 2 * (1 + 9 + 25 + 8)
    corner = next(r for r in table if (r["model"], r["part"], r["a"], r["b"]) == ("M2", "grid", "-1.0", "0.5"))
    assert float(corner["loss"]) == found["M2"].grid[3][0]


def test_what_is_not_finite_is_null_or_empty() -> None:
    files = landscape_files({"M1": replace(landscapes(1)["M1"], circle=(math.inf,) * 8)}, {})
    first = json.loads(files["landscape.json"])["models"]["M1"]
    assert first["sharpness"] is None
    assert {r["loss"] for r in rows(files["landscape.csv"]) if r["part"] == "circle"} == {""}


def test_variation_files_hold_what_was_measured() -> None:
    found = variations(2)
    files = variation_files(found, {"model": "task"})
    assert set(files) == {"variation.json", "layers.csv", "blocks.csv", "variation.png"}
    assert json.loads(files["variation.json"])["models"]["M2"]["whole"]["relative"] == pytest.approx(0.2)
    layers = rows(files["layers.csv"])
    assert [r["layer"] for r in layers if r["model"] == "M1"] == [layer.layer for layer in found["M1"].layers]
    ours = [float(r["relative"]) for r in layers if r["model"] == "M2" and float(r["reference"])]
    assert ours == pytest.approx([0.2] * len(ours))
    assert {r["relative"] for r in layers if not float(r["reference"])} == {""}  # a running mean that never ran
    assert [r["block"] for r in rows(files["blocks.csv"])] == [b.block for v in found.values() for b in v.blocks]
