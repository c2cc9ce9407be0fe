"""Several masks of one image in a step: its signals are taken once, for all of them."""

import torch
from torch import Tensor


def repeated(values: Tensor, samples: int) -> Tensor:
    """Repeat a batch (B, ...), all of it again and again: (samples x B, ...)."""
    if samples == 1:
        return values
    return values.repeat(samples, *[1] * (values.ndim - 1))


def stratified(number: int, samples: int, device: torch.device) -> Tensor:
    """Draw numbers of [0, 1) for ``samples`` rounds over a batch, spread evenly over each image's.

    Args:
        number: Images of the batch, B.
        samples: Numbers of each image.
        device: Where they are drawn.

    Returns:
        Uniform numbers, (samples x B,); those of one image are ``1 / samples`` apart.

    Example:
        >>> numbers = stratified(1, 4, torch.device("cpu")).sort().values
        >>> numbers.diff()
        tensor([0.2500, 0.2500, 0.2500])
    """
    offsets = torch.arange(samples, device=device)[:, None] / samples
    return ((torch.rand(number, device=device) + offsets) % 1).flatten()
