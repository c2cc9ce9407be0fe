"""Localisation: whether a map lies on the true mask, the pixels that decide the class."""

import torch
from torch import Tensor

from saliency_vae.metrics.ranking import descending_rank


def pointing_game(saliency: Tensor, mask: Tensor, tolerance: float = 0.0) -> Tensor:
    """Whether the most salient pixel is in the true mask, or close to it (Zhang et al. 2016).

    If pixels tie for the maximum, the hit is the share on the mask.

    Args:
        saliency: Maps, (B, H, W).
        mask: True masks, (B, H, W) bool.
        tolerance: Euclidean distance from the mask, in pixels, that still counts as a hit, >= 0; 15
            is usual at 224 x 224.

    Returns:
        Hits, (B,), in [0, 1].

    Example:
        >>> saliency = torch.tensor([[[0.1, 0.9], [0.3, 0.2]]])
        >>> pointing_game(saliency, saliency > 0.5)
        tensor([1.])
    """
    most = saliency == saliency.amax((1, 2), keepdim=True)
    return (most & _near(mask, tolerance)).sum((1, 2)) / most.sum((1, 2))


def _near(mask: Tensor, tolerance: float) -> Tensor:
    """Dilate masks (B, H, W) bool by a Euclidean distance in pixels: (B, H, W) bool."""
    if tolerance < 1:
        return mask
    return torch.stack([_squared_distance(one) <= tolerance**2 for one in mask])


def _squared_distance(mask: Tensor) -> Tensor:
    """Squared distance of each pixel to the nearest one of a mask (H, W): (H, W).

    By columns and then rows: Felzenszwalb & Huttenlocher, "Distance Transforms of Sampled
    Functions" (2012).
    """
    rows, columns = (torch.arange(side, device=mask.device) for side in mask.shape)
    down = (rows[:, None] - rows).square().float()
    nearest = torch.where(mask, down[:, :, None], torch.inf).amin(1)
    across = (columns[:, None] - columns).square()
    return (nearest[:, None] + across).amin(2)


def mask_iou(saliency: Tensor, mask: Tensor) -> Tensor:
    """Intersection over union of the K pixels of the true mask and the K most salient ones.

    Args:
        saliency: Maps, (B, H, W).
        mask: True masks, (B, H, W) bool, not empty.

    Returns:
        Intersection over union, (B,), in [0, 1].

    Example:
        >>> saliency = torch.tensor([[[0.1, 0.9], [0.3, 0.2]]])
        >>> mask_iou(saliency, torch.tensor([[[True, True], [False, False]]]))
        tensor([0.3333])
    """
    chosen = _as_many(saliency, mask)
    return (chosen & mask).sum((1, 2)) / (chosen | mask).sum((1, 2))


def relevance_rank(saliency: Tensor, mask: Tensor) -> Tensor:
    """Share of the K pixels of the true mask among the K most salient ones (Arras et al. 2022).

    Args:
        saliency: Maps, (B, H, W).
        mask: True masks, (B, H, W) bool, not empty.

    Returns:
        Share, (B,), in [0, 1].

    Example:
        >>> saliency = torch.tensor([[[0.1, 0.9], [0.3, 0.2]]])
        >>> relevance_rank(saliency, torch.tensor([[[True, True], [False, False]]]))
        tensor([0.5000])
    """
    return (_as_many(saliency, mask) & mask).sum((1, 2)) / mask.sum((1, 2))


def relevance_mass(attribution: Tensor, mask: Tensor) -> Tensor:
    """Share of the positive attribution that lies in the true mask (Arras et al. 2022).

    Unlike the other scores here, it depends on the map's values, not only on their order.

    Args:
        attribution: Attribution, (B, H, W), whose negative values do not count; see
            :func:`saliency_vae.metrics.positive_attribution`.
        mask: True masks, (B, H, W) bool.

    Returns:
        Share, (B,), in [0, 1]; 0 where nothing is positive.

    Example:
        >>> attribution = torch.tensor([[[3.0, 1.0], [-2.0, 0.0]]])
        >>> relevance_mass(attribution, attribution > 2)
        tensor([0.7500])
    """
    positive = attribution.clamp_min(0)
    within, total = (positive * mask).sum((1, 2)), positive.sum((1, 2))
    return torch.where(total > 0, within / total, 0.0)


def _as_many(saliency: Tensor, mask: Tensor) -> Tensor:
    """Mark the K most salient pixels, where K is the number of pixels in the mask."""
    return descending_rank(saliency) < mask.sum((1, 2), keepdim=True)
