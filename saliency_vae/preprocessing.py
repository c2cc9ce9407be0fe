"""From a file's pixels to the square of RGB that a classifier was trained on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

Interpolation = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, then crop the centre, as the classifier's weights expect.

    Attributes:
        resize_size: Shorter side in pixels after resizing, or height and width whatever the shape;
            None keeps the size.
        crop_size: Height and width of the centre crop; None keeps all.
        interpolation: Of the resizing, antialiased.
    """

    resize_size: int | tuple[int, int] | None = None
    crop_size: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess an RGB image to uint8 (3, H, W)."""
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
