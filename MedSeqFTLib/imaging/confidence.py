"""How sure a model is of what it segments: a hint which case a person should look at first. Our choice, not MDS's."""

from __future__ import annotations

from torch import Tensor


class Confidence:
    """The mean probability (softmax of the mean class scores) of the chosen class over all that is segmented."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._voxels = 0

    def take(self, scores: Tensor, weights: Tensor | None = None) -> None:
        """Some more voxels.

        Args:
            scores: class scores [classes, ...]; class 0 is background.
            weights: [...] by which the scores are to be divided.
        """
        segmented = scores.max(0).indices > 0
        chosen = scores[:, segmented]
        if weights is not None:
            chosen = chosen / weights[segmented]
        self._sum += float(chosen.softmax(0).max(0).values.double().sum()) if chosen.numel() else 0.0
        self._voxels += chosen.shape[1]

    @property
    def mean(self) -> float | None:
        """None: nothing was segmented."""
        return min(1.0, self._sum / self._voxels) if self._voxels else None
