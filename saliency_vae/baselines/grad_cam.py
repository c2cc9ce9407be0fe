"""Grad-CAM (Selvaraju et al. 2017) and LayerCAM (Jiang et al. 2021)."""

from abc import ABC, abstractmethod

from torch import Tensor

from saliency_vae.baselines.feature_maps import enlarged, feature_maps
from saliency_vae.baselines.target_score import target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch


class _GradientCAM(ABC):
    """Weighted sum of the feature maps of a layer, enlarged bilinearly.

    Args:
        layer: Name of the module of the network that returns the feature maps, such as
            ``layer4``; None for the one that
            :func:`saliency_vae.baselines.feature_maps.feature_maps` finds.
    """

    zero_is_neutral = True

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`.

        Raises:
            ValueError: If the network has no such layer.
        """
        images = batch["image"]
        target = target_of(batch, classifier)
        maps, gradients = feature_maps(images, target, classifier, self.layer)
        return enlarged(self.combine(maps, gradients), images)

    @abstractmethod
    def combine(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """Combine feature maps and gradients of the target's logit, (B, C, h, w): (B, h, w)."""


class GradCAM(_GradientCAM):
    """Positive part of the sum of feature maps, each weighted by its mean gradient."""

    def combine(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """Weight each feature map by its mean gradient: (B, h, w)."""
        return (gradients.mean((-2, -1), keepdim=True) * maps).sum(1).relu()


class LayerCAM(_GradientCAM):
    """Positive part of the sum of feature maps, weighted per pixel by positive gradients."""

    def combine(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """Weight each pixel of each feature map by its own positive gradient: (B, h, w)."""
        return (gradients.relu() * maps).sum(1).relu()
