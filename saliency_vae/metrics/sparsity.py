"""Sparsity: how few pixels carry an explanation."""

import torch
from torch import Tensor


def gini_index(saliency: Tensor) -> Tensor:
    """Gini index of the absolute map (Hurley & Rickard 2009), independent of the map's scale.

    Args:
        saliency: Maps, (B, H, W).

    Returns:
        Index, (B,), in [0, 1 - 1/HW]: 0 if all pixels are equal, highest if only one is not 0.

    Example:
        >>> gini_index(torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [9.0, 0.0]]]))
        tensor([0.0000, 0.7500], dtype=torch.float64)
    """
    ordered = saliency.flatten(1).abs().double().sort(1).values
    n = ordered.shape[1]
    rank = torch.arange(1, n + 1, device=ordered.device)
    total = ordered.sum(1)
    index = 1 - 2 * (ordered * (n - rank + 0.5)).sum(1) / (n * total)
    return torch.where(total > 0, index, 0.0)
