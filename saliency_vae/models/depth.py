"""Which images are so unlike those of the training that a network only guesses about them."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class Depth(nn.Module):
    """Tells by their features which images a network is out of its depth with.

    They are those whose squared Mahalanobis distance from the features of the training (Lee et al.
    2018, here of all classes together) is above ``farthest``. At the end of each validation,
    :func:`saliency_vae.training.depth.fit_depth` sets what is not known before.

    Args:
        features: Number of features; weights of earlier versions know only the first of them.
    """

    centre: Tensor
    precision: Tensor
    farthest: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("precision", torch.zeros(features, features))
        self.register_buffer("farthest", torch.tensor(math.inf))

    @property
    def is_known(self) -> bool:
        """Whether it can tell; weights of earlier versions cannot."""
        return math.isfinite(self.farthest)

    def distance(self, features: Tensor) -> Tensor:
        """Squared Mahalanobis distance of features (B, F), (B,)."""
        away = features[:, : len(self.centre)].float() - self.centre.float()
        return (away @ self.precision.float() * away).sum(-1)

    def forward(self, features: Tensor) -> Tensor:
        """Whether images of these features (B, F) are unlike those of the training, (B,) bool."""
        return self.distance(features) > self.farthest

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load weights, also those of earlier versions, which tell less or could not tell."""
        for name, value in list(self.named_buffers()):
            found = state_dict.setdefault(f"{prefix}{name}", value)
            if found.shape != value.shape:
                setattr(self, name, torch.empty_like(found, device=value.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
