"""ShapBPT (Rashid & Amparore, AAAI 2026): Shapley values of a binary tree of image regions."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saliency_vae.baselines.target_score import ScoreInParts, each_image, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.perturbations import blurred, perturb
from saliency_vae.runtime.extras import require

_AT_ONCE = 64  # coalitions per batch, the default; smaller batches are more adaptive


class ShapBPT:
    """Shapley values by the authors' package, on a tree that merges regions of similar colour.

    The tree is refined where the target's logit changes most. A removed region is replaced by a
    Gaussian blur of the image by a sixth of its shorter side.

    Args:
        evaluations: Number of coalitions to evaluate, one pass each; two more passes evaluate the
            full and the empty coalition.

    Raises:
        ValueError: If the package is not installed or evaluations is not positive.
    """

    zero_is_neutral = True

    def __init__(self, evaluations: int = 500) -> None:
        if evaluations < 1:
            raise ValueError(f"Expected evaluations >= 1. Found {evaluations}.")
        require("shap_bpt", extra="shap-bpt", wanted_by="this method")
        self.evaluations = evaluations

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        return torch.stack([self._explain(one, classifier) for one in each_image(batch)])

    def _explain(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        from shap_bpt import Explainer

        image, target = batch["image"], target_of(batch, classifier)
        baseline, score = blurred(image), ScoreInParts(classifier)

        def scores(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
            kept = torch.from_numpy(masks).to(image)
            views = perturb(image.expand(len(kept), -1, -1, -1), kept, baseline)
            found: Tensor = score(views, target.expand(len(views), -1))
            array: NDArray[np.float32] = found[:, None].cpu().numpy()
            return array

        pixels = (255 * image[0]).round().byte().permute(1, 2, 0).cpu().numpy()
        explainer: Any = Explainer(scores, pixels, num_explained_classes=1)
        values = explainer.explain_instance(self.evaluations, method="BPT", batch_size=_AT_ONCE)
        return torch.from_numpy(values[0]).to(image)
