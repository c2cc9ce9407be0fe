"""How few pixels an explanation rests on."""

import torch
from torch import Tensor


def gini_index(saliency: Tensor) -> Tensor:
    """Gini index of the absolute map (Hurley & Rickard 2009), whatever its scale.

    Args:
        saliency: (B, H, W).

    Returns:
        (B,) in [0, 1 - 1/HW]: 0 if all pixels are alike (or zero), the most if one has it all.
    """
    ordered = saliency.flatten(1).abs().double().sort(1).values
    n = ordered.shape[1]
    rank = torch.arange(1, n + 1, device=ordered.device)
    total = ordered.sum(1)
    index = 1 - 2 * (ordered * (n - rank + 0.5)).sum(1) / (n * total)
    return torch.where(total > 0, index, 0.0)
