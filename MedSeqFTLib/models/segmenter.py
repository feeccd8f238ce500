"""A trained model put to work: from a volume to a label map on exactly its grid."""

from __future__ import annotations

from collections.abc import Callable

import SimpleITK as sitk
from torch import Tensor

from MedSeqFTLib.imaging.confidence import Confidence
from MedSeqFTLib.imaging.geometry import Geometry, from_canonical, to_canonical
from MedSeqFTLib.imaging.preprocessing import label_values, network_values, prepare_image
from MedSeqFTLib.imaging.sliding_window import predict_classes, window_count
from MedSeqFTLib.models.backbone import Backbone
from MedSeqFTLib.models.compute import Compute
from MedSeqFTLib.models.head import Head
from MedSeqFTLib.models.weights import frozen
from MedSeqFTLib.workspace.schema import TaskPlan


class Segmenter:
    """Segments volumes for one task."""

    def __init__(self, backbone: Backbone, head: Head, plan: TaskPlan, compute: Compute, overlap: float = 0.5) -> None:
        self._backbone = frozen(backbone, compute.device)
        self._head = frozen(head, compute.device)
        self._plan = plan
        self._compute = compute
        self._overlap = overlap

    def segment(
        self,
        image: sitk.Image,
        progress: Callable[[int, int], None] = lambda done, total: None,
        confidence: Confidence | None = None,
    ) -> sitk.Image:
        """Pinned label values, uint8, on the very grid of `image`.

        Args:
            progress: called with windows done and windows in all; it may raise to cancel.
            confidence: is told how sure the model is.
        """
        canonical = to_canonical(image)
        values = network_values(prepare_image(image, self._plan.intensity, self._plan.spacing))
        total = window_count(values.shape, self._plan.patch, self._overlap)
        done = 0

        def after_window() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        classes = predict_classes(
            self._predict,
            values,
            self._plan.patch,
            output_shape=canonical.GetSize()[::-1],
            overlap=self._overlap,
            device=self._compute.device,
            after_window=after_window,
            confidence=confidence,
        )
        labels = sitk.GetImageFromArray(label_values(classes, self._plan.labels))
        labels.CopyInformation(canonical)
        return from_canonical(labels, Geometry.of(image))

    def _predict(self, windows: Tensor) -> Tensor:
        with self._compute.autocast():
            return self._head(self._backbone(windows))
