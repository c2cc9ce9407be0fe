"""Recording gradients, and using eval mode, whatever mode the caller is in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def recording_gradients() -> Iterator[None]:
    """Record gradients, and make tensors that can take part in a backward pass now or later.

    ``torch.enable_grad`` alone does not suffice: it does not leave ``torch.inference_mode``, and a
    tensor made in that mode can never be saved for a backward pass.

    Example:
        >>> with torch.inference_mode(), recording_gradients():
        ...     torch.ones(1, requires_grad=True).square().requires_grad
        True
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and restore the mode of each of its submodules afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
