"""Greedy search over regions, in the manner of SMDL-Attribution (Chen et al. 2024)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.baselines.segments import slic_segments
from saliency_vae.baselines.target_score import each_image, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.metrics import views_at_once
from saliency_vae.perturbations import blurred, perturb
from saliency_vae.runtime.extras import require


class RegionSearch:
    """Order in which a greedy search reveals the segments of an image.

    Starting from the blurred image, each step reveals the segment that gives the highest log-odds
    of the target. Earlier segments get higher values, from n down to 1. This optimises insertion
    over blur directly, so it shows how well a map of regions can score there. The search
    takes ``(n + 2) (n - 1) / 2`` passes for n segments. The paper's search has further terms.

    Args:
        segments: Approximate number n of SLIC segments per image.

    Raises:
        ValueError: If scikit-image is not installed or segments is not positive.
    """

    def __init__(self, segments: int = 50) -> None:
        if segments < 1:
            raise ValueError(f"Expected segments >= 1. Found {segments}.")
        require("skimage", extra="rivals", wanted_by="this method")
        self.segments = segments

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        return torch.stack([self._search(one, classifier) for one in each_image(batch)])

    def _search(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        image, target = batch["image"], target_of(batch, classifier)
        baseline = blurred(image)

        def log_odds(masks: Tensor) -> Tensor:
            views = perturb(image.expand(len(masks), -1, -1, -1), masks, baseline)
            return classifier.log_odds(classifier(views), target.expand(len(masks), -1))

        hidden = F.one_hot(slic_segments(image, self.segments)[0]).permute(2, 0, 1).to(image)
        kept = saliency = torch.zeros_like(image[0, 0])
        while len(hidden) > 1:
            parts = torch.split(hidden, views_at_once(image))
            scores = torch.cat([log_odds(kept + some) for some in parts])
            best = int(scores.argmax())
            kept = kept + hidden[best]
            saliency = saliency + len(hidden) * hidden[best]
            hidden = torch.cat([hidden[:best], hidden[best + 1 :]])
        return saliency + hidden.sum(0)  # the last segment needs no search
