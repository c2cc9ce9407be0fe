"""Checks of images before they are explained."""

import torch
from torch import Tensor

RANGE_MARGIN = 0.25  # noise or bicubic resizing may exceed [0, 1] by this


def check_images(images: Tensor) -> None:
    """Refuse images whose explanation would be meaningless, such as images already normalised.

    Args:
        images: Images, which must be floating-point (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: If they are not.
    """
    if not isinstance(images, Tensor):
        raise ValueError(
            "Expected images (B, 3, H, W) in [0, 1], a tensor. "
            f"Found {type(images).__name__}, which explainer.explain(photograph) may take."
        )
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            "Expected images (B, 3, H, W) of floating point in [0, 1]. "
            f"Found shape {tuple(images.shape)} of {images.dtype}."
        )
    if images.is_meta:
        raise ValueError("Expected images that hold values. Found a tensor on the device meta.")
    ends = torch.stack(images.detach().aminmax()) if images.numel() else torch.zeros(2)
    low, high = ends.tolist()  # the only wait for a GPU
    if not (low >= -RANGE_MARGIN and high <= 1 + RANGE_MARGIN):  # NaN too
        raise ValueError(
            "Expected images in [0, 1]; the classifier normalises them itself. "
            f"Found values from {low:.3g} to {high:.3g}."
        )
