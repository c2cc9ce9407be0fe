"""KernelSHAP (Lundberg & Lee 2017) on segments of similar colour."""

import torch
from torch import Tensor

from saliency_vae.baselines.captum_method import attribute, captum_class
from saliency_vae.baselines.segments import slic_segments
from saliency_vae.baselines.target_score import TargetScore, each_image, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.metrics import views_at_once
from saliency_vae.perturbations import blurred
from saliency_vae.runtime.extras import require


class KernelSHAP:
    """Shapley values of segments for the target's logit, by weighted linear regression.

    A removed segment is replaced by a Gaussian blur of the image by a sixth of its shorter side.
    The coalitions of every image are drawn with the same seed.

    Args:
        segments: Approximate number of SLIC segments per image.
        samples: Number of coalitions of segments, one pass each.
        seed: Seed of the coalitions.

    Raises:
        ValueError: If Captum or scikit-image is not installed, or a number is not positive.
    """

    zero_is_neutral = True

    def __init__(self, segments: int = 50, samples: int = 500, seed: int = 0) -> None:
        if min(segments, samples) < 1:
            raise ValueError(f"Expected segments and samples >= 1. Found {segments} and {samples}.")
        require("skimage", extra="rivals", wanted_by="this method")
        self.attribution = captum_class("captum.attr.KernelShap")
        self.segments = segments
        self.samples = samples
        self.seed = seed

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        return torch.cat([self._explain(one, classifier) for one in each_image(batch)])

    def _explain(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        image, target = batch["image"], target_of(batch, classifier)
        segments = slic_segments(image, self.segments)
        if segments.max() == 0:  # a single segment has no others to compare with
            return torch.zeros_like(image[:, 0])

        score = TargetScore(classifier)  # gets the whole target, which Captum would split
        attribution = attribute(
            self.attribution(lambda views, _: score(views, target)),
            {"image": image, "target": target},
            classifier,
            seed=self.seed,
            baselines=blurred(image),
            feature_mask=segments[:, None],
            n_samples=self.samples,
            perturbations_per_eval=views_at_once(image),
        )
        return attribution[:, 0]  # the channels of a segment share one value
