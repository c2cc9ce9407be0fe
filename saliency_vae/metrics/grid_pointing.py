"""Scores of the grid pointing game (Boehle et al. 2021; Rao et al. 2022).

They measure how much of a map lies in each of several regions, such as the cells of a grid. Tied
pixels count equally, because many maps are zero over large parts of an image.
"""

import torch
from torch import Tensor

from saliency_vae.topk import num_kept


def positive_attribution(saliency: Tensor, *, zero_is_neutral: bool = False) -> Tensor:
    """Positive part of a map, relative to zero or to its median.

    Args:
        saliency: Maps, (B, H, W).
        zero_is_neutral: Whether zero in a map means that a pixel does not matter; otherwise the
            map's median is subtracted first.

    Returns:
        Attribution, (B, H, W), >= 0.

    Example:
        >>> positive_attribution(torch.tensor([[[5.0, 1.0, 2.0]]]))
        tensor([[[3., 0., 0.]]])
    """
    if zero_is_neutral:
        return saliency.clamp_min(0)
    return (saliency - saliency.flatten(1).median(1).values[:, None, None]).clamp_min(0)


def region_shares(attribution: Tensor, regions: Tensor) -> Tensor:
    """Share of each region in the total attribution of all regions.

    Args:
        attribution: Attribution, (B, H, W), >= 0.
        regions: Regions that do not overlap, (B, n, H, W) bool.

    Returns:
        Shares, (B, n), which sum to 1; all 1 / n where no region has any attribution.

    Example:
        >>> halves = torch.tensor([[[[True, False]], [[False, True]]]])
        >>> region_shares(torch.tensor([[[3.0, 1.0]]]), halves)
        tensor([[0.7500, 0.2500]])
    """
    sums = (attribution[:, None].double() * regions).sum((2, 3))
    total = sums.sum(1, keepdim=True)
    return torch.where(total > 0, sums / total, 1 / sums.shape[1]).float()


def top_shares(saliency: Tensor, regions: Tensor, fraction: float = 0.1) -> Tensor:
    """Share of the most salient pixels that lies in each region.

    Pixels that tie at the threshold each count as the same fraction of a pixel.

    Args:
        saliency: Maps, (B, H, W).
        regions: Regions, (B, n, H, W) bool.
        fraction: Share of the pixels that count as most salient, in (0, 1].

    Returns:
        Shares, (B, n), in [0, 1].

    Example:
        >>> halves = torch.tensor([[[[True, True, False, False]], [[False, False, True, True]]]])
        >>> top_shares(torch.tensor([[[5.0, 0.0, 4.0, 9.0]]]), halves, fraction=0.5)
        tensor([[0.5000, 0.5000]])
    """
    kept = num_kept(fraction, saliency[0].numel())
    least = saliency.flatten(1).topk(kept).values[:, -1, None, None]
    above, level = saliency > least, saliency == least
    part = (kept - above.sum((1, 2))).double() / level.sum((1, 2))
    weights = above + level * part[:, None, None]
    return ((weights[:, None] * regions).sum((2, 3)) / kept).float()


def has_most(shares: Tensor) -> Tensor:
    """Whether each region has the largest share; tied regions split the hit equally.

    Args:
        shares: Shares of the regions, (B, n).

    Returns:
        Hits, (B, n), in [0, 1], which sum to 1.

    Example:
        >>> has_most(torch.tensor([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2]]))
        tensor([[0.0000, 1.0000, 0.0000],
                [0.5000, 0.5000, 0.0000]])
    """
    most = (shares == shares.amax(1, keepdim=True)).float()
    return most / most.sum(1, keepdim=True)
