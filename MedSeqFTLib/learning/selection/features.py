"""Selection by clusters: cases that together stand for the task, by what M_0's encoder sees in them.

Known from MedCoSS (Ye et al., CVPR 2024), whose buffer holds the cases nearest to k-means centres of features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler

from MedSeqFTLib.imaging.cache import Index3, PreparedCase
from MedSeqFTLib.learning.forecast import CROPS
from MedSeqFTLib.learning.selection.scoring import passes_at_once, random_crops
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.weights import frozen

_STARTS = 10  # of k-means, of which the best result is taken
_LARGEST_SEED = 2**32  # of scikit-learn


@dataclass(frozen=True)
class FeatureReader:
    """M_0, and everything else that a case's features depend on. `patch`: voxels, z, y, x."""

    backbone: Backbone
    seed: int
    patch: Index3
    compute: Compute
    one_by_one: bool = False  # needs less memory

    def __post_init__(self) -> None:
        frozen(self.backbone, self.compute.device)

    def features(self, case: PreparedCase) -> NDArray[np.float64]:
        """[channels]: the encoder's deepest features, averaged over the voxels of CROPS random crops.

        The crops lie at the same relative positions in every case.
        """
        size = 1 if self.one_by_one else passes_at_once(self.patch)
        batches = [self._batch(case, range(first, min(first + size, CROPS))) for first in range(0, CROPS, size)]
        return np.concatenate(batches).mean(axis=0)

    def _batch(self, case: PreparedCase, crops: range) -> NDArray[np.float64]:
        images = random_crops(case, self.patch, self.seed, crops).to(self.compute.device)
        with torch.inference_mode(), self.compute.autocast():
            deepest = self.backbone.encoder_features(images)[-1]
        return deepest.float().flatten(2).mean(dim=2).cpu().double().numpy()


def nearest_to_centres(features: NDArray[np.float64], count: int, seed: int) -> list[int]:
    """The cases nearest to the centres of `count` clusters: exactly so many distinct ones, in ascending order.

    Where one case is the nearest to two centres, the assignment of least total distance decides.

    Args:
        features: [cases, channels]; each channel is standardised over the cases.
    """
    standard = StandardScaler().fit_transform(features)
    clusters = KMeans(n_clusters=count, n_init=_STARTS, random_state=seed % _LARGEST_SEED).fit(standard)
    cases, _ = linear_sum_assignment(clusters.transform(standard))
    return sorted(int(case) for case in cases)
