"""Several networks as one: their average mean, and how wide their mixture is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.ModuleList):
    """Encoder networks over the same inputs, whose posteriors are averaged.

    The posterior has the mean and the total variance of their mixture, as in deep ensembles
    (Lakshminarayanan et al. 2017). Over the pixels this variance is spread as the average of the
    members' log-variances says: that the networks disagree about a pixel does not mean that the
    classifier would not mind another map there (docs/uncertainty.md).

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
