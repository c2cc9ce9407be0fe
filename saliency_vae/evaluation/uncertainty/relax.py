"""RELAX (Wickstrøm et al. 2021) for a classifier: how much the answers to random masks vary."""

from typing import NamedTuple

import torch
from torch import Tensor

from saliency_vae.baselines import Rise
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch


class MaskSums(NamedTuple):
    """Sums over random masks, each weighed by how far it shows the pixel, float64.

    Attributes:
        shown: Total weight of each pixel, (H, W).
        total: Weighted sum of the answers for each image, (B, H, W).
        squares: Weighted sum of their squares, (B, H, W).
    """

    shown: Tensor
    total: Tensor
    squares: Tensor

    @property
    def importance(self) -> Tensor:
        """Mean answer, (B, H, W)."""
        return self._mean().float()

    @property
    def variance(self) -> Tensor:
        """Variance of the answers, (B, H, W), >= 0: the uncertainty."""
        spread = self.squares / self._weight() - self._mean().square()
        return spread.clamp_min(0).float()

    def _mean(self) -> Tensor:
        return self.total / self._weight()

    def _weight(self) -> Tensor:
        return self.shown.clamp_min(torch.finfo(self.shown.dtype).tiny)  # where no mask shows it

    def merged(self, other: "MaskSums") -> "MaskSums":
        """Sums over the masks of both."""
        return MaskSums(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@torch.no_grad()
def mask_sums(batch: Batch, classifier: FrozenClassifier, *, masks: int, seed: int) -> MaskSums:
    """Ask a classifier about images through random masks, those of RISE.

    The paper compares the representation of the masked image with that of the whole; for a
    classifier the probability of the target takes the place of this similarity.

    Args:
        batch: Images as float in [0, 1], (B, 3, H, W), and perhaps their target.
        classifier: Classifier to ask.
        masks: Number of masks, each of which costs a pass; the paper uses 3,000.
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
