"""Ranks of the pixels of a map, and the rank correlation of two maps."""

import torch
from torch import Tensor
from torch.nn import functional as F


def descending_rank(maps: Tensor) -> Tensor:
    """Rank the pixels of each map from 0, the most salient first.

    Args:
        maps: Maps, (B, H, W). Ties are broken in reading order.

    Returns:
        Ranks, (B, H, W) int64; in each map a permutation of 0 to HW - 1.

    Example:
        >>> descending_rank(torch.tensor([[[0.1, 0.9], [0.5, 0.1]]]))
        tensor([[[2, 0],
                 [1, 3]]])
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(1).view_as(maps)  # the inverse permutation


def average_rank(values: Tensor) -> Tensor:
    """Rank each value in its row from 1, smallest first; ties share the mean of their ranks.

    Args:
        values: Values, (..., n).

    Returns:
        Ranks, (..., n) float64.

    Example:
        >>> average_rank(torch.tensor([0.5, 0.1, 0.5]))
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    values = values.contiguous()
    ordered = values.sort(-1).values
    smaller = torch.searchsorted(ordered, values)
    not_larger = torch.searchsorted(ordered, values, right=True)
    return (smaller + not_larger + 1).double() / 2


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of two maps, image by image.

    Args:
        first: Maps, (B, ...).
        second: Maps of the same shape.

    Returns:
        Correlation, (B,) float64, in [-1, 1]; 0 where one of the two maps is constant.

    Example:
        >>> spearman(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 9.0, 4.0]]))
        tensor([0.5000], dtype=torch.float64)
    """
    ranks = [average_rank(maps.flatten(1)) for maps in (first, second)]
    x, y = (rank - rank.mean(1, keepdim=True) for rank in ranks)
    return F.cosine_similarity(x, y)
