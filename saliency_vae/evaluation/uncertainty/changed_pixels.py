"""Scale deviations from a map until they change a given share of its kept set."""

import torch
from torch import Tensor

from saliency_vae.topk import hard_topk

# Bisection of the scale, from 2^-12 to 2^12 times the one at which map and deviation have the same
# standard deviation, to a relative error of 1e-5.
_WIDEST = 12.0
_HALVINGS = 22


def changed_share(masks: Tensor, kept: Tensor) -> Tensor:
    """Share of the kept set, (..., H, W) bool, that masks of the same size replace: (...).

    Example:
        >>> changed_share(torch.tensor([[True, False, True]]), torch.tensor([[True, True, False]]))
        tensor(0.5000)
    """
    return (masks & ~kept).sum((-2, -1)) / kept.sum((-2, -1))


def scaled_to_change(mean: Tensor, kept: Tensor, deviation: Tensor, share: float) -> Tensor:
    """Scale each deviation from a map until it changes a share of the kept set.

    Args:
        mean: Map, (H, W).
        kept: Kept set of the map, its most salient pixels, (H, W) bool.
        deviation: Deviations from the map, (n, H, W).
        share: Share of the kept set to change, in [0, 1].

    Returns:
        Kept sets of ``mean + scale * deviation``, (n, H, W) bool, which differ from the mean's by
        the share, rounded to whole pixels. A deviation that cannot reach the share is scaled up
        until the mean hardly matters.

    Example:
        >>> mean, deviation = torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.tensor([[[0.0, 0, 0, 1]]])
        >>> scaled_to_change(mean, mean > 1, deviation, share=0.5)
        tensor([[[ True, False, False,  True]]])
    """
    # Double, because pixels about to swap ranks differ by less than single precision resolves.
    scores, moves = mean.flatten().double(), deviation.flatten(1).double()
    number, left_out = int(kept.sum()), ~kept.flatten()
    wanted = round(share * number)
    spread = moves.std(1, keepdim=True)
    unit = torch.where(spread > 0, scores.std() / spread, 0.0)

    def moved(power: Tensor) -> Tensor:
        return scores + unit * power.exp2() * moves

    high = torch.full_like(unit, _WIDEST)
    low = -high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        maps = moved(middle)
        border = maps.kthvalue(len(scores) - number + 1, dim=1, keepdim=True).values
        changed = ((maps >= border) & left_out).sum(1, keepdim=True)
        low = torch.where(changed < wanted, middle, low)
        high = torch.where(changed < wanted, high, middle)
    return hard_topk(moved(high), number).view_as(deviation)
