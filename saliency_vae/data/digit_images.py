"""Cluttered digits as a data set in memory."""

import torch
from torch.utils.data import Dataset
from tqdm import trange

from saliency_vae.data.batch import Batch
from saliency_vae.data.digit_painter import DigitPainter, Split

NUM_CLASSES = 10


class ClutteredDigits(Dataset[Batch]):
    """A split of the data set, drawn on construction and held in memory.

    Args:
        split: ``train``, ``val`` or ``test``, which share no writers.
        size: Number of images.
        seed: Seed of the data set.
        image_size: Height and width in pixels, at least 32.
        progress: Show a progress bar while drawing, if there is a terminal.

    Attributes:
        images: Images, (size, 3, H, W) uint8.
        masks: True masks of the digits, (size, H, W) bool.
        labels: Labels, (size,) int64.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        *,
        seed: int = 0,
        image_size: int = 48,
        progress: bool = False,
    ) -> None:
        self.split = split
        self.images = torch.empty(size, 3, image_size, image_size, dtype=torch.uint8)
        self.masks = torch.empty(size, image_size, image_size, dtype=torch.bool)
        self.labels = torch.empty(size, dtype=torch.int64)
        painter = DigitPainter(split, seed=seed, image_size=image_size)
        hidden = None if progress else True  # None: shown if there is a terminal
        for i in trange(size, desc=f"Drawing {split} digits", disable=hidden, leave=False):
            image, mask, label = painter.draw(i)
            self.images[i] = torch.from_numpy(image).permute(2, 0, 1)
            self.masks[i] = torch.from_numpy(mask)
            self.labels[i] = label

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return {
            "image": self.images[index],
            "index": torch.tensor(index),
            "mask": self.masks[index],
            "label": self.labels[index],
        }

    def name(self, index: int) -> str:
        """Name of an image: its split and index."""
        return f"{self.split} digit {index}"
