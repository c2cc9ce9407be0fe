"""Score-CAM (Wang et al. 2020)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.baselines.feature_maps import enlarged, feature_maps
from saliency_vae.baselines.target_score import TargetScore, each_image, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.metrics import min_max, views_at_once
from saliency_vae.perturbations import perturb


class ScoreCAM:
    """Positive part of the sum of feature maps, weighted by the logits of the images they mask.

    Each feature map, enlarged and scaled to [0, 1], is a mask. The weights are the softmax of the
    logits over the feature maps (algorithm 1 of the paper). Hidden pixels take the classifier's own
    mean colour, as in the paper, which masks normalised images. Each feature map costs a pass.

    Args:
        layer: Name of the module of the network that returns the feature maps; None for the one
            that :func:`saliency_vae.baselines.feature_maps.feature_maps` finds.
    """

    zero_is_neutral = True

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`.

        Raises:
            ValueError: If the network has no such layer.
        """
        return torch.cat([self._explain(one, classifier) for one in each_image(batch)])

    def _explain(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        image, target = batch["image"], target_of(batch, classifier)
        maps = feature_maps(image, target, classifier, self.layer)[0][0]
        masks = min_max(F.interpolate(maps[None], image.shape[-2:], mode="bilinear")[0])
        varied = masks.flatten(1).any(1)  # a constant map hides nothing or everything
        score, mean = TargetScore(classifier), classifier.mean.to(image)
        scores = torch.cat(
            [
                score(perturb(image.expand(len(some), -1, -1, -1), some, mean), target)
                for some in torch.split(masks, views_at_once(image))
            ]
        )
        weights = scores.masked_fill(~varied, -math.inf).softmax(0).nan_to_num()
        return enlarged(torch.einsum("c,chw->hw", weights, maps).relu()[None], image)
