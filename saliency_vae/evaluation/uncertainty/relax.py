"""RELAX (Wickstrøm et al. 2021) for a classifier: how much the answers to random masks vary."""

import torch
from torch import Tensor

from saliency_vae.baselines import Rise
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch


class Relax:
    """Importance and uncertainty of pixels: mean and variance of the answers to random masks.

    Each mask counts for a pixel as far as it shows it. The paper compares the representation of
    the masked image with that of the whole; for a classifier the probability of the target takes
    the place of this similarity. As a method, its maps are the uncertainty.

    Args:
        masks: Number of masks; the paper uses 3,000. They are those of RISE.
        seed: Seed of the masks.

    Example:
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))
        >>> classifier = FrozenClassifier(network, name="toy")
        >>> Relax(masks=8)({"image": torch.rand(5, 3, 4, 4)}, classifier).shape
        torch.Size([5, 4, 4])
    """

    def __init__(self, masks: int = 500, seed: int = 0) -> None:
        self.rise = Rise(masks=masks, seed=seed)

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Uncertainty, the variance, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        _, variance = self._moments(batch, classifier)
        return variance

    def importance(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Importance, the mean, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        mean, _ = self._moments(batch, classifier)
        return mean

    @torch.no_grad()
    def _moments(self, batch: Batch, classifier: FrozenClassifier) -> tuple[Tensor, Tensor]:
        """Mean and variance over the masks, each weighed by how far it shows the pixel."""
        images = batch["image"]
        shown = torch.zeros(images.shape[-2:], dtype=torch.float64, device=images.device)
        total = squares = shown.expand(len(images), *shown.shape)
        for masks, scores in self.rise.masked_scores(batch, classifier):
            masks, scores = masks.double(), scores.double()
            shown = shown + masks.sum(0)
            total = total + torch.einsum("bn,nhw->bhw", scores, masks)
            squares = squares + torch.einsum("bn,nhw->bhw", scores.square(), masks)
        shown = shown.clamp_min(torch.finfo(shown.dtype).tiny)  # a pixel that no mask shows
        mean = total / shown
        return mean.float(), (squares / shown - mean.square()).clamp_min(0).float()
