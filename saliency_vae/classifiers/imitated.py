"""Preprocessing that does what another library's does, compared on images before it is taken."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saliency_vae.data import Preprocessing

Reference = Callable[[Image.Image], Tensor]  # an RGB image to normalised values (3, H, W)
_SIZES = ((150, 300), (900, 450), (360, 360))  # height and width, so that crops cut even numbers
_CELL = 6  # pixels of a cell of the compared images
_MOST_LEVELS, _MEAN_LEVELS = 8.0, 0.5  # of 255; rounding differs by 2 at single pixels


def imitation(
    reference: Reference,
    candidates: Iterable[Preprocessing],
    mean: Sequence[float],
    std: Sequence[float],
) -> Preprocessing | None:
    """Find the preprocessing that gives the same pixels as another library's, to a rounding error.

    Args:
        reference: Preprocessing of the other library.
        candidates: What it may be.
        mean: Value that the reference subtracts from each channel of images in [0, 1].
        std: Value that it divides each channel by after that.

    Returns:
        The first candidate that does the same; None if none does.
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
    """Find mean and standard deviation by which a reference normalises images in [0, 1].

    Whatever scale its settings are in: it is seen from what becomes of black and of white.
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
    """Coloured noise in cells, in which any other size, place or interpolation shows."""
    generator = np.random.default_rng(0)
    size = height // _CELL, width // _CELL, 3
    cells = generator.integers(0, 256, size, dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def _same(levels: Tensor, expected: Tensor) -> bool:
    if levels.shape != expected.shape:
        return False
    difference = (levels - expected).abs()
    return bool(difference.max() <= _MOST_LEVELS and difference.mean() <= _MEAN_LEVELS)
