"""Whether an explanation lies on the pixels that truly decide the class."""

import torch
from torch import Tensor

from saliency_vae.metrics.ranking import descending_rank


def pointing_game(saliency: Tensor, mask: Tensor, tolerance: float = 0.0) -> Tensor:
    """Whether the most salient pixel is in the true mask (Zhang et al. 2016), or close to it.

    Args:
        saliency: (B, H, W).
        mask: (B, H, W) bool.
        tolerance: Euclidean distance in pixels at which the mask is still hit, >= 0; 15 is usual
            at 224 x 224.

    Returns:
        (B,) bool.
    """
    height, width = saliency.shape[-2:]
    best = saliency.flatten(1).argmax(1)[:, None, None]
    row = torch.arange(height, device=mask.device)[:, None]
    column = torch.arange(width, device=mask.device)
    distance2 = (row - best // width).square() + (column - best % width).square()
    return (mask & (distance2 <= tolerance**2)).any(-1).any(-1)


def mask_iou(saliency: Tensor, mask: Tensor) -> Tensor:
    """Intersection over union of the true mask with as many of the most salient pixels.

    Args:
        saliency: (B, H, W).
        mask: (B, H, W) bool, not empty.

    Returns:
        (B,), in [0, 1].
    """
    chosen = _as_many(saliency, mask)
    return (chosen & mask).sum((1, 2)) / (chosen | mask).sum((1, 2))


def relevance_rank(saliency: Tensor, mask: Tensor) -> Tensor:
    """Share of the true mask among as many of the most salient pixels (Arras et al. 2022).

    Args:
        saliency: (B, H, W).
        mask: (B, H, W) bool, not empty.

    Returns:
        (B,), in [0, 1].
    """
    return (_as_many(saliency, mask) & mask).sum((1, 2)) / mask.sum((1, 2))


def relevance_mass(saliency: Tensor, mask: Tensor) -> Tensor:
    """Share of the positive saliency that lies in the true mask (Arras et al. 2022).

    Unlike the other scores here it depends on the map's values, not only on their order.

    Args:
        saliency: (B, H, W).
        mask: (B, H, W) bool.

    Returns:
        (B,), in [0, 1]; 0 where nothing is positive.
    """
    positive = saliency.clamp_min(0)
    within, total = (positive * mask).sum((1, 2)), positive.sum((1, 2))
    return torch.where(total > 0, within / total, 0.0)


def _as_many(saliency: Tensor, mask: Tensor) -> Tensor:
    """Mark as many of the most salient pixels as the mask has."""
    return descending_rank(saliency) < mask.sum((1, 2), keepdim=True)
