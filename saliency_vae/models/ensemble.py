"""Several networks as one: the mean and the variance of the mixture of their Gaussians."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.ModuleList):
    """Encoder networks over the same inputs, whose posteriors are averaged.

    The posterior has the mean and the variance of each pixel of their mixture, as in deep ensembles
    (Lakshminarayanan et al. 2017): where the members disagree, it is wide.

    Args:
        members: Networks from images and joined maps to mean and log-variance, (B, 2, H, W).
    """

    def forward(self, images: Tensor, joined: Sequence[Sequence[Tensor]]) -> Tensor:
        """Encode images (B, 3, H, W) to mean and log-variance of the mixture, (B, 2, H, W)."""
        mean, log_variance = self.each(images, joined).unbind(2)
        variance = log_variance.exp().mean(0) + mean.var(0, correction=0)
        return torch.stack([mean.mean(0), variance.log()], dim=1)

    def each(self, images: Tensor, joined: Sequence[Sequence[Tensor]]) -> Tensor:
        """Encode images to mean and log-variance of each member, (members, B, 2, H, W)."""
        return torch.stack([member(images, joined) for member in self])
