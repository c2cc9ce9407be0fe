"""Detects images so unlike the training images that a network can only guess about them."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class Depth(nn.Module):
    """Out-of-distribution detector on a network's features.

    An image is out of depth if the squared Mahalanobis distance of its features from those of the
    validation images is above ``farthest`` (Lee et al. 2018, here for all classes together). At the
    end of each validation, :func:`saliency_vae.training.depth.fit_depth` sets the buffers.

    Args:
        features: Number of features; weights of earlier versions may use only the first of them.
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
        """Whether the detector is fitted; in weights of earlier versions it may not be."""
        return math.isfinite(self.farthest)

    def distance(self, features: Tensor) -> Tensor:
        """Squared Mahalanobis distance of features (B, F), (B,)."""
        away = features[:, : len(self.centre)].float() - self.centre.float()
        return (away @ self.precision.float() * away).sum(-1)

    def forward(self, features: Tensor) -> Tensor:
        """Whether images with these features (B, F) are out of depth, (B,) bool."""
        return self.distance(features) > self.farthest

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load weights; those of earlier versions may have fewer features or no detector."""
        for name, value in list(self.named_buffers()):
            found = state_dict.setdefault(f"{prefix}{name}", value)
            if found.shape != value.shape:
                setattr(self, name, torch.empty_like(found, device=value.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
