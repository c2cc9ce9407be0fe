"""Converting a photograph in any form (file, PIL image, array or tensor) to a PIL image."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from saliency_vae.data.image_reader import load_rgb, upright_rgb

_MARGIN = 1e-3  # most that rounding errors may exceed [0, 1] by


def as_picture(photograph: object, name: str = "image") -> Image.Image:
    """Convert a photograph in any form to an upright 8-bit RGB image.

    Args:
        photograph: File, PIL image, array (H, W, 3) or (3, H, W) or tensor (3, H, W), uint8 or
            float in [0, 1].
        name: Name of the photograph in error messages.

    Raises:
        ValueError: If it is none of these.
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
    """Convert a tensor of any device and precision to an array."""
    if tensor.is_meta:
        raise ValueError(f"Expected {name} to hold values. Found a tensor on meta.")
    tensor = tensor.detach()
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array
