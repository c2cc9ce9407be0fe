"""Ensemble of encoder networks: the mean and total variance of their mixture."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.ModuleList):
    """Encoder networks over the same inputs, whose posteriors are averaged.

    The posterior has the mean and the total variance of their mixture, as in deep ensembles
    (Lakshminarayanan et al. 2017). This variance is distributed over the pixels as the members'
    average log-variance says: disagreement of the networks about a pixel does not imply that the
    map could change there without changing the prediction (docs/uncertainty.md).

    Args:
        members: Networks from images and joined maps to mean and log-variance, (B, 2, H, W).
    """

    def forward(self, images: Tensor, joined: Sequence[Sequence[Tensor]]) -> Tensor:
        """Encode images (B, 3, H, W) to mean and log-variance, (B, 2, H, W)."""
        each = torch.stack([member(images, joined) for member in self])
        means, log_variances = each.unbind(2)
        mixture = log_variances.exp().mean(0) + means.var(0, correction=0)
        spread = log_variances.mean(0)
        missing = mixture.mean((-2, -1), keepdim=True) / spread.exp().mean((-2, -1), keepdim=True)
        return torch.stack([means.mean(0), spread + missing.log()], dim=1)
