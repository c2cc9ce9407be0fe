"""Scaling of maps in different units to one range."""

import torch
from torch import Tensor


def min_max(maps: Tensor) -> Tensor:
    """Scale each map to [0, 1], its lowest value to 0 and its highest to 1.

    Args:
        maps: Maps, (..., H, W).

    Returns:
        Maps of the same shape; 0 where a map is constant.

    Example:
        >>> min_max(torch.tensor([[-1.0, 0.0], [1.0, 3.0]]))
        tensor([[0.0000, 0.2500],
                [0.5000, 1.0000]])
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)
