"""A photograph in any form that a person has of it: file, PIL image, array or tensor."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from saliency_vae.data.image_reader import load_rgb, upright_rgb

_MARGIN = 1e-3  # by which rounding errors may leave [0, 1]


def as_picture(photograph: object, name: str = "image") -> Image.Image:
    """Bring what a person has of a photograph into the form of a file's: 8-bit RGB, upright.

    Args:
        photograph: File, PIL image, array (H, W, 3) or (3, H, W) or tensor (3, H, W), of bytes or
            in [0, 1].
        name: What errors call it.

    Raises:
        ValueError: If it is nothing of these.
        OSError: If it is a file that cannot be read.

    Example:
        >>> as_picture(np.zeros((4, 6, 3), np.uint8)).size
        (6, 4)
    """
    if isinstance(photograph, str | os.PathLike):
        return load_rgb(photograph)
    if isinstance(photograph, Image.Image):
        return upright_rgb(photograph)
    if isinstance(photograph, Tensor | np.ndarray):
        return Image.fromarray(_pixels(photograph, name))
    raise ValueError(
        f"Expected {name} to be a file, a PIL image, an array or a tensor (3, H, W). "
        f"Found {type(photograph).__name__}."
    )


def _pixels(photograph: Tensor | NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) of a tensor (3, H, W), or of an array (H, W, 3) or (3, H, W)."""
    is_tensor = isinstance(photograph, Tensor)
    values = _array(photograph, name) if isinstance(photograph, Tensor) else photograph
    shape = tuple(values.shape)
    if len(shape) == 3 and shape[0] == 3 and (is_tensor or shape[2] != 3):
        values = values.transpose(1, 2, 0)
    elif is_tensor or len(shape) != 3 or shape[2] != 3:
        wanted = "(3, H, W)" if is_tensor else "(H, W, 3) or (3, H, W)"
        more = ": a list of images explains several" if len(shape) == 4 else ""
        raise ValueError(f"Expected {name} to be {wanted}. Found {shape}{more}.")
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"Expected {name} of type uint8 or float. Found {values.dtype}.")
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= -_MARGIN and high <= 1 + _MARGIN):  # NaN too
        raise ValueError(
            f"Expected {name} in [0, 1], or uint8; the classifier normalises it itself. "
            f"Found values from {low:.3g} to {high:.3g}."
        )
    return np.ascontiguousarray((values.clip(0, 1) * 255).round().astype(np.uint8))


def _array(tensor: Tensor, name: str) -> NDArray[Any]:
    """Array of a tensor of any device and precision."""
    if tensor.is_meta:
        raise ValueError(f"Expected {name} to hold values. Found a tensor on meta.")
    tensor = tensor.detach()
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array
