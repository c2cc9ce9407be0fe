"""Whether an explanation lies on the pixels that truly decide the class."""

import torch
from torch import Tensor


def pointing_game(saliency: Tensor, mask: Tensor) -> Tensor:
    """Whether the most salient pixel is in the true mask (Zhang et al. 2016, no tolerance).

    Args:
        saliency: (B, H, W).
        mask: (B, H, W) bool.

    Returns:
        (B,) bool.
    """
    best = saliency.flatten(1).argmax(1, keepdim=True)
    return mask.flatten(1).gather(1, best).squeeze(1)


def mask_iou(saliency: Tensor, mask: Tensor) -> Tensor:
    """Intersection over union of the true mask with as many of the most salient pixels.

    Args:
        saliency: (B, H, W).
        mask: (B, H, W) bool, not empty.

    Returns:
        (B,), in [0, 1].
    """
    truth = mask.flatten(1)
    size = truth.sum(1, keepdim=True)
    order = saliency.flatten(1).argsort(1, descending=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    chosen = rank < size
    return (chosen & truth).sum(1) / (chosen | truth).sum(1)
