"""Prediction by windows: the same decisions as MONAI, on any output grid."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_samples import LABELS, ball_scan
from monai.inferers import sliding_window_inference
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from MedSeqFTLib.imaging.geometry import Geometry
from MedSeqFTLib.imaging.sliding_window import predict_classes, window_count, window_starts
from MedSeqFTLib.models.backbone import Features
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.segmenter import Segmenter
from MedSeqFTLib.workspace.schema import TaskPlan, Window


def network(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, classes, 3, padding=1)).eval()


def volume(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@given(side=st.integers(1, 300), patch=st.integers(1, 96), overlap=st.sampled_from([0.0, 0.25, 0.5, 0.625, 0.75]))
def test_windows_cover_every_voxel_and_stay_inside(side: int, patch: int, overlap: float) -> None:
    side = max(side, patch)
    starts = window_starts(side, patch, overlap)
    covered = np.zeros(side, bool)
    for start in starts:
        assert 0 <= start <= side - patch
        covered[start : start + patch] = True
    assert covered.all()


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("shape", [(40, 37, 50), (16, 16, 16), (100, 20, 17)])
def test_the_decisions_are_monais(shape: tuple[int, int, int], overlap: float) -> None:
    net, image, calls = network(), volume(shape), []

    def predictor(windows: Tensor) -> Tensor:
        calls.extend(windows)
        return net(windows)

    ours = predict_classes(predictor, image, (16, 16, 16), overlap=overlap)
    with torch.inference_mode():
        theirs = sliding_window_inference(
            torch.from_numpy(image)[None, None], (16, 16, 16), 1, net, overlap=overlap, mode="gaussian"
        )
    assert len(calls) == window_count(shape, (16, 16, 16), overlap)
    best = theirs[0].topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-5).numpy()  # elsewhere rounding may decide
    assert clear.mean() > 0.999
    assert np.array_equal(ours[clear], theirs[0].argmax(0).numpy()[clear])


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(5, 30)] * 3),
    output=st.tuples(*[st.integers(3, 70)] * 3),
)
def test_class_scores_are_interpolated_with_aligned_corners(
    shape: tuple[int, int, int], output: tuple[int, int, int]
) -> None:
    """Against scipy: a predictor that works voxel by voxel makes the blended scores known exactly."""

    def predictor(window: Tensor) -> Tensor:
        return torch.cat([window, -window, 0.1 + 0 * window], dim=1)

    image = volume(shape)
    ours = predict_classes(predictor, image, (16, 16, 16), output_shape=output)
    axes = [np.clip((np.arange(n) + 0.5) * s / n - 0.5, 0, s - 1) for s, n in zip(shape, output, strict=True)]
    fine = map_coordinates(image, np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")
    scores = np.stack([fine, -fine, np.full_like(fine, 0.1)])
    ordered = np.sort(scores, axis=0)
    clear = ordered[2] - ordered[1] > 1e-4
    assert np.array_equal(ours[clear], scores.argmax(0)[clear])


def test_progress_may_stop_the_prediction() -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        predict_classes(network(), volume((40, 16, 16)), (16, 16, 16), after_window=stop)


class ByThreshold(nn.Module):
    """A "backbone" whose only feature is the intensity."""

    def forward(self, image: Tensor) -> Features:
        return Features((), image)


class Bands(nn.Module):
    """A "head" that calls bright voxels class 1 and middling ones class 2."""

    def forward(self, features: Features) -> Tensor:
        x = features.decoder
        return torch.cat([-x - 0.45, x - 0.35, 0.25 - (x - 0.0).abs()], dim=1)


orders = st.permutations([0, 1, 2])


@settings(max_examples=25, deadline=None)
@given(order=orders, flips=st.tuples(*[st.booleans()] * 3), spacing=st.floats(0.8, 2.5), angle=st.floats(-0.6, 0.6))
def test_a_segmentation_lies_exactly_on_the_grid_of_its_scan(
    order: list[int], flips: tuple[bool, bool, bool], spacing: float, angle: float
) -> None:
    image, label_map = ball_scan(3)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    direction = turn @ np.reshape(image.GetDirection(), (3, 3))
    for each in (image, label_map):
        each.SetDirection(direction.ravel().tolist())
    image, label_map = (sitk.Flip(sitk.PermuteAxes(each, order), flips) for each in (image, label_map))
    plan = TaskPlan(labels=LABELS, intensity=Window(low=0, high=200), spacing=(spacing,) * 3, patch=(16, 16, 16))
    segmenter = Segmenter(ByThreshold(), Bands(), plan, Compute(torch.device("cpu"), torch.float32))
    seen: list[tuple[int, int]] = []
    result = segmenter.segment(image, lambda done, total: seen.append((done, total)))
    assert Geometry.of(result) == Geometry.of(image)
    assert seen[-1][0] == seen[-1][1] == len(seen)
    ball = sitk.GetArrayFromImage(label_map) == 1
    found = sitk.GetArrayFromImage(result) == 1
    assert 2 * (ball & found).sum() / (ball.sum() + found.sum()) > 0.75
