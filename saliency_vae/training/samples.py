"""Several masks per image in a step; the classifier's signals are extracted once for all."""

import torch
from torch import Tensor


def repeated(values: Tensor, samples: int) -> Tensor:
    """Repeat a whole batch (B, ...) ``samples`` times: (samples x B, ...)."""
    if samples == 1:
        return values
    return values.repeat(samples, *[1] * (values.ndim - 1))


def stratified(number: int, samples: int, device: torch.device) -> Tensor:
    """Draw stratified uniform numbers in [0, 1), ``samples`` for each image of a batch.

    Args:
        number: Number of images in the batch, B.
        samples: Numbers per image.
        device: Device on which they are drawn.

    Returns:
        Uniform numbers, (samples x B,); those of one image are ``1 / samples`` apart.

    Example:
        >>> numbers = stratified(1, 4, torch.device("cpu")).sort().values
        >>> numbers.diff()
        tensor([0.2500, 0.2500, 0.2500])
    """
    offsets = torch.arange(samples, device=device)[:, None] / samples
    return ((torch.rand(number, device=device) + offsets) % 1).flatten()
