"""Occlusion (Zeiler & Fergus 2014)."""

from torch import Tensor, nn

from saliency_vae.baselines.captum_method import attribute, captum_class
from saliency_vae.baselines.target_score import ScoreInParts
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.metrics import views_at_once
from saliency_vae.perturbations import Blur


class Occlusion:
    """Mean drop of the target's logit over the windows that hide a pixel.

    Args:
        window: Side of the square window, as a fraction of the shorter side of the image.
        stride: Stride of the window, also as a fraction of the shorter side; at most ``window``.
        baseline: Makes the baseline images that are shown in a window, see
            :mod:`saliency_vae.perturbations`; by default a blur by a sixth of the shorter side.

    Raises:
        ValueError: If Captum is not installed or an argument is out of range.
    """

    zero_is_neutral = True

    def __init__(
        self,
        window: float = 1 / 8,
        stride: float = 1 / 16,
        baseline: nn.Module | None = None,
    ) -> None:
        if not 0 < stride <= window <= 1:
            raise ValueError(
                f"Expected 0 < stride <= window <= 1 of the shorter side. Found {stride}, {window}."
            )
        self.window = window
        self.stride = stride
        self.baseline = baseline or Blur()
        self.attribution = captum_class("captum.attr.Occlusion")

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        images = batch["image"]
        side = min(images.shape[-2:])
        window, stride = (max(1, round(part * side)) for part in (self.window, self.stride))
        attribution = attribute(
            self.attribution(ScoreInParts(classifier)),
            batch,
            classifier,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=self.baseline(images),
            perturbations_per_eval=max(1, views_at_once(images) // len(images)),
        )
        return attribution[:, 0]  # a window hides all channels alike
