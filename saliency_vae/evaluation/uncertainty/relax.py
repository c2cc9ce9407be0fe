"""RELAX (Wickstrøm et al. 2021) for a classifier: how much its output varies with random masks."""

from typing import NamedTuple

import torch
from torch import Tensor

from saliency_vae.baselines import Rise
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch


class MaskSums(NamedTuple):
    """Sums over random masks, each weighted by how much of the pixel it shows, float64.

    Attributes:
        shown: Total weight of each pixel, (H, W).
        total: Weighted sum of the classifier's outputs for each image, (B, H, W).
        squares: Weighted sum of their squares, (B, H, W).
    """

    shown: Tensor
    total: Tensor
    squares: Tensor

    @property
    def importance(self) -> Tensor:
        """Weighted mean of the outputs, (B, H, W)."""
        return self._mean().float()

    @property
    def variance(self) -> Tensor:
        """Weighted variance of the outputs, (B, H, W), >= 0: the uncertainty."""
        spread = self.squares / self._weight() - self._mean().square()
        return spread.clamp_min(0).float()

    def _mean(self) -> Tensor:
        return self.total / self._weight()

    def _weight(self) -> Tensor:
        return self.shown.clamp_min(torch.finfo(self.shown.dtype).tiny)  # avoids 0 / 0

    def merged(self, other: "MaskSums") -> "MaskSums":
        """Sums over the masks of both."""
        return MaskSums(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@torch.no_grad()
def mask_sums(batch: Batch, classifier: FrozenClassifier, *, masks: int, seed: int) -> MaskSums:
    """Classify images through the random masks of RISE, and sum the outputs.

    The paper uses the similarity between the representations of the masked and the whole image;
    here the probability of the target replaces it.

    Args:
        batch: Images as float in [0, 1], (B, 3, H, W), and optionally their target.
        classifier: Classifier to explain.
        masks: Number of masks, one pass each; the paper uses 3,000.
        seed: Seed of the masks.

    Example:
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))
        >>> classifier = FrozenClassifier(network, name="toy")
        >>> found = mask_sums({"image": torch.rand(5, 3, 4, 4)}, classifier, masks=8, seed=0)
        >>> found.importance.shape, found.variance.shape
        (torch.Size([5, 4, 4]), torch.Size([5, 4, 4]))
    """
    images = batch["image"]
    shown = torch.zeros(images.shape[-2:], dtype=torch.float64, device=images.device)
    total = squares = shown.expand(len(images), *shown.shape)
    for of_part, scores in Rise(masks=masks, seed=seed).masked_scores(batch, classifier):
        of_part, scores = of_part.double(), scores.double()
        shown = shown + of_part.sum(0)
        total = total + torch.einsum("bn,nhw->bhw", scores, of_part)
        squares = squares + torch.einsum("bn,nhw->bhw", scores.square(), of_part)
    return MaskSums(shown, total, squares)
