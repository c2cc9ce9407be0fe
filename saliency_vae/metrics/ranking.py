"""Pixels in the order of their saliency, and how far two orders agree."""

import torch
from torch import Tensor
from torch.nn import functional as F


def descending_rank(maps: Tensor) -> Tensor:
    """Count the pixels that come before each one when the most salient is first.

    Args:
        maps: (B, H, W). Of equal pixels the first in reading order comes first.

    Returns:
        (B, H, W) int64, each map a permutation of 0 to HW - 1.
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(1).view_as(maps)  # the inverse permutation


def average_rank(values: Tensor) -> Tensor:
    """Rank each value in its row from 1, smallest first; ties share the mean of their ranks.

    Args:
        values: (..., n).

    Returns:
        (..., n) float64.
    """
    values = values.contiguous()
    ordered = values.sort(-1).values
    smaller = torch.searchsorted(ordered, values)
    not_larger = torch.searchsorted(ordered, values, right=True)
    return (smaller + not_larger + 1).double() / 2


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Correlate the ranks of two maps, image by image.

    Args:
        first: (B, ...).
        second: Of the same shape.

    Returns:
        (B,) float64 in [-1, 1]; 0 where one of the two is constant.
    """
    ranks = [average_rank(maps.flatten(1)) for maps in (first, second)]
    x, y = (rank - rank.mean(1, keepdim=True) for rank in ranks)
    return F.cosine_similarity(x, y)
