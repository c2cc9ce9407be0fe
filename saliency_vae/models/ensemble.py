"""Several networks as one: the average of their means and of their log-variances."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.ModuleList):
    """Encoder networks over the same inputs, whose outputs are averaged.

    The posterior is as wide as its members are on average. Where they disagree, it is no wider, as
    the mixture of their posteriors would be: that the networks disagree does not mean that the
    classifier would not mind another map (docs/uncertainty.md).

    Args:
        members: Networks from images and joined maps to mean and log-variance, (B, 2, H, W).
    """

    def forward(self, images: Tensor, joined: Sequence[Sequence[Tensor]]) -> Tensor:
        """Encode images (B, 3, H, W) to average mean and log-variance, (B, 2, H, W)."""
        return self.each(images, joined).mean(0)

    def each(self, images: Tensor, joined: Sequence[Sequence[Tensor]]) -> Tensor:
        """Encode images to mean and log-variance of each member, (members, B, 2, H, W)."""
        return torch.stack([member(images, joined) for member in self])
