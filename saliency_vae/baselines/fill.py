"""Baseline images of the methods that remove pixels."""

from typing import Literal, get_args

import torch
from torch import Tensor

from saliency_vae.perturbations import blurred

Fill = Literal["blur", "black"]


def check_fill(fill: str) -> None:
    """Refuse an unknown fill.

    Raises:
        ValueError: If it is none of ``blur`` and ``black``.
    """
    if fill not in get_args(Fill):
        raise ValueError(f"Expected fill blur or black. Found {fill!r}.")


def filled(images: Tensor, fill: Fill) -> Tensor:
    """Make the baseline images of images (B, 3, H, W).

    Args:
        images: Images in [0, 1].
        fill: ``blur``, a Gaussian blur by a sixth of the shorter side, or ``black``.
    """
    return blurred(images) if fill == "blur" else torch.zeros_like(images)
