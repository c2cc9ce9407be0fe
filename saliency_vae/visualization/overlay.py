"""Colouring saliency maps and laying them over images."""

import math
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_SHARE = 141  # opacity of a map over an image, in 256ths: integers are several times as fast
OPACITY = _SHARE / 256
_BORDER = 3  # pixels at the border of a stddev map that are not drawn

Pixels = NDArray[np.uint8]


def as_rgb(image: Tensor) -> Pixels:
    """Turn an image (3, H, W), uint8 or float in [0, 1], into pixels (H, W, 3).

    Raises:
        ValueError: If it is not such an image, for example because it is normalised.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"Expected an image (3, H, W). Found {tuple(image.shape)}.")
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ValueError(
                "Expected a float image in [0, 1], its normalisation undone. "
                f"Found values from {low:.3g} to {high:.3g}."
            )
        image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    elif image.dtype != torch.uint8:
        raise ValueError(f"Expected an image of type uint8 or float. Found {image.dtype}.")
    pixels: Pixels = image.permute(1, 2, 0).cpu().numpy()
    return pixels


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode a picture as the bytes of a file, in a format of Pillow's and with its options."""
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite, several times as fast as ``isfinite().all()``."""
    return not values.numel() or all(math.isfinite(end) for end in values.aminmax())


def limits(values: Tensor) -> tuple[float, float]:
    """Find the lowest and the highest finite value of a map; (0, 0) if no value is finite."""
    if not values.numel():
        return 0.0, 0.0
    low = float(values.nan_to_num(math.inf, math.inf, math.inf).amin())
    high = float(values.nan_to_num(-math.inf, -math.inf, -math.inf).amax())
    return (low, high) if low <= high else (0.0, 0.0)


def without_border(stddev: Tensor) -> Tensor:
    """Replace the outermost 3 pixels of stddev maps by NaN, for display only.

    Pixels at the border have fewer neighbours in the prior and in the encoder's convolutions, so
    their stddev is higher in any image, 1.6 to 1.8 times at the edge of photographs explained by
    the universal explainer: a frame that would outshine the rest.

    Args:
        stddev: Maps, (..., h, w).

    Returns:
        The maps with NaN in their border, of the same shape.
    """
    inner = torch.full_like(stddev, float("nan"))
    inside = slice(_BORDER, -_BORDER)
    inner[..., inside, inside] = stddev[..., inside, inside]
    return inner


def rescaled(values: Tensor, scale: tuple[float, float] | None = None) -> Tensor:
    """Scale values linearly, in their own precision, so that the ends of a scale become 0 and 1.

    Args:
        values: Values of any shape, of floating point.
        scale: Values that become 0 and 1; by default the lowest and the highest finite value.

    Returns:
        Scaled values of the same shape; if the ends are equal, values are only shifted, so that a
        constant map becomes 0.

    Example:
        >>> rescaled(torch.tensor([2.0, 3.0, 6.0])).tolist()
        [0.0, 0.25, 1.0]
        >>> rescaled(torch.tensor([7.0, 7.0])).tolist()
        [0.0, 0.0]
    """
    low, high = limits(values) if scale is None else scale
    return (values - low) / (high - low if high > low else 1.0)


def colour(values: Tensor, colours: str, scale: tuple[float, float]) -> Pixels:
    """Colour a map (H, W) with a matplotlib colour map over a scale (low, high).

    Returns:
        Pixels (H, W, 3); the lowest colour where a value is NaN, and everywhere for a constant map.
    """
    rgb: Pixels = _table(colours).take(_levels(values, scale), axis=0)
    return rgb


def _levels(values: Tensor, scale: tuple[float, float]) -> Pixels:
    """Convert a map (H, W) to colour indices from 0 to 255; NaN becomes 0."""
    shares = rescaled(values.double(), scale)
    levels: Pixels = shares.mul_(256).nan_to_num_(0).clamp_(0, 255).byte().cpu().numpy()
    return levels


@cache
def _table(colours: str) -> Pixels:
    """List the 256 colours of a matplotlib colour map, whose own look-up is slow."""
    return np.asarray(colormaps[colours](np.arange(256), bytes=True)[:, :3])


@cache
def _weighted_table(colours: str) -> NDArray[np.uint16]:
    """List the colours weighted by the opacity, in 256ths of a level, plus a half for rounding."""
    return _table(colours).astype(np.uint16) * _SHARE + 128


def overlay(
    image: Tensor, values: Tensor, *, colours: str = "viridis", scale: tuple[float, float]
) -> Pixels:
    """Lay a coloured map over an image that stays visible in its own colours.

    Args:
        image: Image (3, H, W), uint8 or float in [0, 1].
        values: Map (H, W); where it is NaN the image is left as it is.
        colours: Name of a matplotlib colour map.
        scale: Values of the two ends of the colour map.

    Returns:
        Pixels (H, W, 3).

    Raises:
        ValueError: If the image is out of range or the sizes differ.
    """
    pixels = np.ascontiguousarray(as_rgb(image))
    if pixels.shape[:2] != tuple(values.shape):
        raise ValueError(
            f"Expected a map of the image's size {pixels.shape[:2]}. Found {tuple(values.shape)}."
        )
    blended = np.multiply(pixels, 256 - _SHARE, dtype=np.uint16)
    blended += _weighted_table(colours).take(_levels(values, scale), axis=0)
    blended >>= 8
    result: Pixels = blended.astype(np.uint8)
    if not is_finite(values):
        unknown = ~np.isfinite(values.cpu().numpy())[..., None]
        # Pixels as single values of three bytes: several times as fast as numpy.where.
        np.copyto(result.view("V3"), pixels.view("V3"), where=unknown)
    return result
