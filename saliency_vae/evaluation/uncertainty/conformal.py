"""Conformal regions of ranks, which contain a pixel's right rank at a guaranteed level."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LEVEL = 0.8  # share of the pixels whose right rank lies in its region; .9 would need 9 images
_BINS = 50  # of ranks, each with regions of its own width


class RankRegions(NamedTuple):
    """Regions of the ranks of pixels, as shares of the number of pixels.

    Attributes:
        half_width: Half the width of each pixel's region, which is centred on its rank, (N, HW)
            float64, in [0, 1].
        covered: Share of the pixels of each image whose right rank lies in its region, (N,).
    """

    half_width: Tensor
    covered: Tensor


def rank_regions(rank: Tensor, right: Tensor, groups: Tensor | None = None) -> RankRegions:
    """Regions of the ranks of pixels by split-conformal prediction, separately in bins of ranks.

    Every other group of images is calibrated on the groups in between, so that no image is judged
    by itself or its group. Pixels of one image are dependent, so the guarantee is for a pixel of a
    new image (Lee, Barber and Willett 2023). Fewer than 4 groups to calibrate on guarantee nothing
    but the whole range.

    Args:
        rank: Rank of each pixel by the explainer, (N, HW) int64, from 0.
        right: Right rank of each pixel, such as the consensus of references, (N, HW) int64.
        groups: Group of each image, (N,) int64; None where all are independent.

    Example:
        >>> rank = torch.arange(100).expand(20, 100)
        >>> regions = rank_regions(rank, rank.flip(1))
        >>> regions.half_width[0, [0, 49]], bool(regions.covered.mean() >= LEVEL)
        (tensor([0.9900, 0.0300], dtype=torch.float64), True)
    """
    pixels = rank.shape[1]
    error = (rank - right).abs().double() / pixels
    bins = _BINS * rank // pixels
    half_width = torch.ones_like(error)
    groups = torch.arange(len(rank)) if groups is None else groups
    _, groups = torch.unique(groups, return_inverse=True)
    for turn in range(2):
        judged = (groups % 2 == turn).to(rank.device)
        independent = len(torch.unique(groups[groups % 2 != turn]))
        widths = _widths(error[~judged], bins[~judged], independent)
        half_width[judged] = widths[bins[judged]]
    covered = (error <= half_width).double().mean(1)
    return RankRegions(half_width, covered)


def _widths(error: Tensor, bins: Tensor, independent: int) -> Tensor:
    """Quantile of the errors in each bin, (bins,); 1 if too few groups guarantee any."""
    widths = error.new_ones(_BINS)
    if LEVEL * (independent + 1) > independent:
        return widths
    for index in range(_BINS):
        found = error[bins == index]
        if len(found):
            order = math.ceil(LEVEL * (independent + 1) / independent * len(found))
            widths[index] = found.kthvalue(min(order, len(found))).values
    return widths


def undecided(regions: RankRegions, rank: Tensor, number: int) -> Tensor:
    """How far each pixel's region reaches across the threshold of the top, (N, HW) in [-1, 1].

    Args:
        regions: Regions of the ranks.
        rank: Rank of each pixel by the explainer, (N, HW) int64, from 0.
        number: Number of pixels among the top.
    """
    return regions.half_width - (rank + 0.5 - number).abs() / rank.shape[1]
