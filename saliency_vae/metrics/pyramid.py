"""Image pyramids: halving and doubling of the resolution, and push-pull interpolation.

Maps are (H, W, n), pixels first, so that every operation runs over long rows of memory.
"""

import torch
from torch import Tensor


def neighbourhood_sums(maps: Tensor) -> Tensor:
    """Sum each pixel and its neighbours, weighted by 1, 2, 1 along both axes.

    Args:
        maps: Maps, (H, W, n); beyond the border they are 0.

    Example:
        >>> maps = torch.zeros(3, 3, 1)
        >>> maps[0, 1] = 1
        >>> neighbourhood_sums(maps)[..., 0]
        tensor([[2., 4., 2.],
                [1., 2., 1.],
                [0., 0., 0.]])
    """
    rows = 2 * maps
    rows[1:] += maps[:-1]
    rows[:-1] += maps[1:]
    sums = 2 * rows
    sums[:, 1:] += rows[:, :-1]
    sums[:, :-1] += rows[:, 1:]
    return sums


def neighbourhood_weights(maps: Tensor) -> Tensor:
    """Total weight of each pixel's neighbourhood, (H, W, 1): 16 inside, less at the border."""
    return neighbourhood_sums(maps.new_ones(*maps.shape[:2], 1))


def halved(maps: Tensor) -> Tensor:
    """Sum maps (H, W, n) over blocks of 2 x 2 pixels; the last block of an odd side is smaller."""
    height, width = maps.shape[:2]
    rows = maps[::2].clone()
    rows[: height // 2] += maps[1::2]
    blocks = rows[:, ::2].clone()
    blocks[:, : width // 2] += rows[:, 1::2]
    return blocks


def doubled(maps: Tensor, weights: Tensor) -> Tensor:
    """Upsample maps bilinearly to twice their resolution.

    Args:
        maps: Maps, (h, w, n).
        weights: :func:`neighbourhood_weights` of the finer maps, (H, W, 1), h = ceil(H / 2).

    Returns:
        Maps, (H, W, n).
    """
    height, width = weights.shape[:2]
    repeated = maps.repeat_interleave(2, 0)[:height].repeat_interleave(2, 1)[:, :width]
    return neighbourhood_sums(repeated).div_(weights)


def push_pull(colours: Tensor, known: Tensor, background: Tensor) -> Tensor:
    """Fill in unknown pixels from coarser and coarser means of the known ones.

    Pull: each pixel at half the resolution is the mean of the known ones among its four pixels, and
    unknown if there are none. Push: unknown pixels are interpolated from half the resolution
    (Gortler et al. 1996, section 3.4).

    Args:
        colours: Maps, (H, W, n).
        known: 1 where a pixel is known, else 0, of the same shape.
        background: Value of each map where no pixel is known, (n,).

    Returns:
        Maps with the known pixels unchanged, (H, W, n).

    Example:
        >>> colours, known = torch.tensor([[[3.0], [9.0]]]), torch.tensor([[[1.0], [0.0]]])
        >>> push_pull(colours, known, torch.zeros(1)).flatten()
        tensor([3., 3.])
    """
    is_known = known > 0
    if max(colours.shape[:2]) == 1:
        return torch.where(is_known, colours, background)
    number = halved(known)
    means = halved(known * colours).div_(number.clamp_min(1))
    coarser = push_pull(means, (number > 0).to(known), background)
    return torch.where(is_known, colours, doubled(coarser, neighbourhood_weights(colours)))
