"""Reproduce another library's preprocessing, checked on images before it is accepted."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saliency_vae.data import Preprocessing

Reference = Callable[[Image.Image], Tensor]  # an RGB image to normalised values (3, H, W)
_SIZES = ((150, 300), (900, 450), (360, 360))  # height, width; crops cut even numbers of pixels
_CELL = 6  # side in pixels of a noise cell in the compared images
_MOST_LEVELS, _MEAN_LEVELS = 8.0, 0.5  # allowed, of 255; rounding differs by 2 at some pixels


def imitation(
    reference: Reference,
    candidates: Iterable[Preprocessing],
    mean: Sequence[float],
    std: Sequence[float],
) -> Preprocessing | None:
    """Find the preprocessing that gives the same pixels as another library's, up to rounding.

    Args:
        reference: Preprocessing of the other library.
        candidates: Preprocessings to try.
        mean: Value that the reference subtracts from each channel of images in [0, 1].
        std: Value that it divides each channel by after that.

    Returns:
        The first candidate that matches; None if none does.
    """
    images = [_image(*size) for size in _SIZES]
    offset, scale = (torch.tensor(list(values))[:, None, None] for values in (mean, std))
    expected = [(reference(image) * scale + offset) * 255 for image in images]
    for candidate in candidates:
        if all(
            _same(candidate(image).float(), levels)
            for image, levels in zip(images, expected, strict=True)
        ):
            return candidate
    return None


def normalisation(reference: Reference) -> tuple[list[float], list[float]]:
    """Find the mean and standard deviation with which a reference normalises images in [0, 1].

    They are computed from its outputs for black and white, so its settings may be in any scale.
    """
    black, white = (
        reference(Image.new("RGB", (360, 360), colour)).double().flatten(1).median(1).values
        for colour in ("black", "white")
    )
    std = 1 / (white - black)
    return (
        [round(value, 6) for value in (-black * std).tolist()],
        [round(value, 6) for value in std.tolist()],
    )


def _image(height: int, width: int) -> Image.Image:
    """Coloured noise in cells, which reveals any other size, crop or interpolation."""
    generator = np.random.default_rng(0)
    size = height // _CELL, width // _CELL, 3
    cells = generator.integers(0, 256, size, dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def _same(levels: Tensor, expected: Tensor) -> bool:
    if levels.shape != expected.shape:
        return False
    difference = (levels - expected).abs()
    return bool(difference.max() <= _MOST_LEVELS and difference.mean() <= _MEAN_LEVELS)
