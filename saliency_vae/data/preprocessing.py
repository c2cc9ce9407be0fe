"""Preprocessing: from the pixels of a file to the image that a classifier expects."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]

MINIMUM_SIZE = 16  # smallest side of an image, in pixels, that every encoder supports
_MOST_PIXELS = 2**28  # most pixels of a resized image: a gigabyte in Pillow


class TooLargeError(ValueError):
    """An image so long and narrow that it would be too large once resized."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, then crop the centre, as the classifier's weights expect.

    Attributes:
        resize_size: Shorter side in pixels after resizing, or height and width regardless of the
            aspect ratio; None keeps the size.
        crop_size: Height and width of the centre crop, or the side of a square one; None crops
            nothing.
        interpolation: Interpolation of the resizing, which is antialiased.

    Raises:
        ValueError: If a size is not of positive whole numbers.

    Example:
        >>> preprocessing = Preprocessing(resize_size=40, crop_size=(32, 32))
        >>> preprocessing(Image.new("RGB", (60, 80))).shape
        torch.Size([3, 32, 32])
    """

    resize_size: int | tuple[int, int] | None = None
    crop_size: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        """Check the sizes; a square crop may be given by its side."""
        if isinstance(self.crop_size, int):
            object.__setattr__(self, "crop_size", (self.crop_size, self.crop_size))
        for name, size in (("resize_size", self.resize_size), ("crop_size", self.crop_size)):
            sides = size if isinstance(size, tuple | list) else (size, size)
            whole = all(isinstance(side, int) and side > 0 for side in sides)
            if size is not None and not (whole and len(sides) == 2):
                raise ValueError(
                    f"Expected {name} of whole numbers > 0, a side or (height, width). "
                    f"Found {size!r}."
                )

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess an RGB image to uint8 (3, H, W).

        Raises:
            TooLargeError: If the image is so long and narrow that resizing would make it too large.
        """
        height, width = self.resized(image.height, image.width)
        if height * width > _MOST_PIXELS:
            raise TooLargeError(
                f"Expected an image of at most {_MOST_PIXELS} pixels after resizing. "
                f"Found {height} x {width}, resized from {image.height} x {image.width}."
            )
        if self.resize_size is not None:
            image = F.resize(
                image,
                [self.resize_size] if isinstance(self.resize_size, int) else list(self.resize_size),
                interpolation=F.InterpolationMode(self.interpolation),
                antialias=True,
            )
        if self.crop_size is not None:
            image = F.center_crop(image, list(self.crop_size))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing an image (height, width), before the crop."""
        if self.resize_size is None:
            return height, width
        if not isinstance(self.resize_size, int):
            return self.resize_size
        shorter, longer = sorted((height, width))
        long_side = int(self.resize_size * longer / shorter)  # as torchvision rounds
        if height <= width:
            return self.resize_size, long_side
        return long_side, self.resize_size

    def restore(
        self, maps: Tensor, size: tuple[int, int], at: tuple[int, int] | None = None
    ) -> Tensor:
        """Resample maps of a preprocessed image onto the original image, bilinearly.

        Args:
            maps: Maps of the preprocessed image, (..., h, w).
            size: Height and width of the original image.
            at: Height and width of the result; by default those of the original.

        Returns:
            Maps over the whole original, (..., H, W); NaN outside the crop.
        """
        rows, columns = (
            _positions(length, resized, cropped)
            for length, resized, cropped in zip(
                at or size, self.resized(*size), maps.shape[-2:], strict=True
            )
        )
        return _interpolate(_interpolate(maps, columns, -1), rows, -2)

    def view(
        self, size: tuple[int, int], seen: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """Find the part of an image that the classifier sees.

        Args:
            size: Height and width of the original image.
            seen: Height and width of the preprocessed image.

        Returns:
            Left, top, width and height as fractions of the original image.

        Example:
            >>> Preprocessing(crop_size=(50, 100)).view((100, 200), (50, 100))
            (0.25, 0.25, 0.5, 0.5)
        """
        (top, bottom), (left, right) = (
            (max(0.0, start / resized), min(1.0, (start + length) / resized))
            for length, resized in zip(seen, self.resized(*size), strict=True)
            for start in [_start(resized, length)]
        )
        return left, top, right - left, bottom - top


def _start(resized: int, cropped: int) -> int:
    """First pixel of a centre crop, as torchvision rounds, whether it cuts or pads."""
    return round((resized - cropped) / 2) if resized >= cropped else -((cropped - resized) // 2)


def _positions(length: int, resized: int, cropped: int) -> Tensor:
    """Positions of a side's pixel centres in the crop, whose first pixel has its centre at 0.5."""
    places = (torch.arange(length, dtype=torch.float64) + 0.5) * (resized / length)
    return places - _start(resized, cropped)


def _interpolate(maps: Tensor, positions: Tensor, axis: int) -> Tensor:
    """Interpolate maps at m positions along axis -1 or -2, which gets length m; NaN outside."""
    n = maps.shape[axis]
    positions = positions if axis == -1 else positions[:, None]
    outside = (positions < 0) | (positions > n)
    places = (positions - 0.5).clamp(0, n - 1)
    low = places.long()
    weights = (places - low).to(maps)
    below, above = (
        maps.index_select(axis, index.flatten().to(maps.device))
        for index in (low, (low + 1).clamp_max(n - 1))
    )
    values = torch.lerp(below, above, weights)
    if outside.any():
        values = values.masked_fill(outside.to(maps.device), float("nan"))
    return values
