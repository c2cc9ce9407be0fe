"""Cluttered digits (after Mnih et al. 2014): where the classifier must look is known.

A real handwritten digit is pasted at a random place on coloured noise, among fragments of other
digits. Every image is a function of (seed, split, index) alone.
"""

from functools import cache, lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import trange

from saliency_vae.data.batch import Batch
from saliency_vae.data.datamodule import SaliencyDataModule

Split = Literal["train", "val", "test"]
Place = tuple[slice, slice]
NUM_CLASSES = 10

# load_digits holds its 13 writers one after the other: whole blocks keep the splits' writers apart.
_WRITERS = np.array_split(np.arange(1797), 13)
_SPLIT_WRITERS: dict[Split, tuple[int, ...]] = {
    "train": (0, 1, 2, 4, 5, 7, 8, 10, 11),
    "val": (3, 9),
    "test": (6, 12),
}
_SPLIT_KEY: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_STROKE = 0.5  # ink above this belongs to the digit's true mask
_SIDES = (20, 28)  # pixels of a digit's side, at 48x48
_FRAGMENTS = 8
_FRAGMENT_SIDE = 9  # pixels, at 48x48


@cache
def _digits(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Ink in [0, 1], (n, 8, 8), and labels, (n,)."""
    digits = load_digits()
    part = np.concatenate([_WRITERS[writer] for writer in _SPLIT_WRITERS[split]])
    return (digits.images[part] / 16).astype(np.float32), digits.target[part].astype(np.int64)


@cache  # a few thousand small arrays; enlarging each anew takes most of the time
def _enlarged(split: Split, which: int, side: int) -> NDArray[np.float32]:
    ink = Image.fromarray(_digits(split)[0][which])
    enlarged = np.asarray(ink.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    return enlarged.clip(0, 1)


def cluttered_digit(
    split: Split, index: int, *, seed: int, image_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int]:
    """Draw one image.

    Args:
        split: Which writers' digits.
        index: Of the image.
        seed: Of the data set.
        image_size: Height and width.

    Returns:
        Image (H, W, 3), true mask of the digit (H, W), label.
    """
    rng = np.random.default_rng((seed, _SPLIT_KEY[split], index))
    labels = _digits(split)[1]
    scale = image_size / 48
    smallest, largest = (round(scale * side) for side in _SIDES)
    uniform = rng.random((_FRAGMENTS + 1, 7))  # one row for each thing to paste
    which = (uniform[:, 0] * len(labels)).astype(int).tolist()
    sides = (smallest + uniform[:, 1] * (largest + 1 - smallest)).astype(int).tolist()
    places = uniform[:, 2:4].tolist()
    colours = uniform[:, 4:7].astype(np.float32)

    canvas = 0.08 * rng.standard_normal((image_size, image_size, 3), dtype=np.float32)
    canvas += rng.uniform(0.1, 0.5, 3).astype(np.float32)

    def paste(ink: NDArray[np.float32], place: list[float], colour: NDArray[np.float32]) -> Place:
        height, width = ink.shape
        top = int(place[0] * (image_size - height + 1))
        left = int(place[1] * (image_size - width + 1))
        where = slice(top, top + height), slice(left, left + width)
        canvas[where] += ink[..., None] * (colour - canvas[where])
        return where

    fragment_side = max(2, round(scale * _FRAGMENT_SIDE))
    corners = rng.random((_FRAGMENTS, 2)).tolist()
    for i, corner in enumerate(corners):
        room = sides[i] - fragment_side + 1
        top, left = int(corner[0] * room), int(corner[1] * room)
        whole = _enlarged(split, which[i], sides[i])
        fragment = whole[top : top + fragment_side, left : left + fragment_side]
        paste(fragment, places[i], 0.4 + 0.6 * colours[i])
    digit = _enlarged(split, which[-1], sides[-1])
    where = paste(digit, places[-1], 0.6 + 0.4 * colours[-1])

    mask = np.zeros((image_size, image_size), dtype=np.bool_)
    mask[where] = digit > _STROKE
    image = (255 * canvas.clip(0, 1)).round().astype(np.uint8)
    return image, mask, int(labels[which[-1]])


@lru_cache(maxsize=4)  # the classifier and its explainer train on the same images
def _draw(
    split: Split, size: int, seed: int, image_size: int, progress: bool
) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.empty(size, 3, image_size, image_size, dtype=torch.uint8)
    masks = torch.empty(size, image_size, image_size, dtype=torch.bool)
    labels = torch.empty(size, dtype=torch.int64)
    for i in trange(size, desc=f"Drawing {split} digits", disable=not progress, leave=False):
        image, mask, label = cluttered_digit(split, i, seed=seed, image_size=image_size)
        images[i] = torch.from_numpy(image).permute(2, 0, 1)
        masks[i] = torch.from_numpy(mask)
        labels[i] = label
    return images, masks, labels


class ClutteredDigits(Dataset[Batch]):
    """A split of the data set, drawn once in a process and kept in memory.

    Args:
        split: ``train``, ``val`` or ``test``: disjoint writers.
        size: Number of images.
        seed: Of the data set.
        image_size: Height and width, at least 32.
        progress: Show a progress bar while drawing.
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
        self.images, self.masks, self.labels = _draw(split, size, seed, image_size, progress)

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
        """Name an image by its place in the split."""
        return f"{self.split} digit {index}"


class ClutteredDigitsData(SaliencyDataModule):
    """Cluttered digits for training and testing an explainer.

    Args:
        image_size: Height and width in pixels, at least 32.
        train_size: Number of training images.
        val_size: Number of validation images.
        test_size: Number of test images, with masks.
        seed: Of the data set.
        batch_size: Images a step over all devices and accumulated batches.
        num_workers: Loader processes; 0 suits data in memory.

    Raises:
        ValueError: If a size is out of range.
    """

    has_test_set = True

    def __init__(
        self,
        image_size: int = 48,
        train_size: int = 16_000,
        val_size: int = 1_000,
        test_size: int = 1_000,
        seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if image_size < 32:
            raise ValueError(f"Expected data.image_size >= 32 pixels. Found {image_size}.")
        for name, size in (("train", train_size), ("val", val_size), ("test", test_size)):
            if size < 1:
                raise ValueError(f"Expected data.{name}_size >= 1 image. Found {size}.")
        self.image_size = image_size
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}

    def setup(self, stage: str) -> None:
        """Draw the splits that the stage needs."""
        if stage == "fit":
            self.train_set = self._draw("train")
        if stage in ("fit", "validate"):
            self.val_set = self._draw("val")
        if stage == "test":
            self.test_set = self._draw("test")

    def _draw(self, split: Split) -> ClutteredDigits:
        return ClutteredDigits(
            split, self.sizes[split], seed=self.seed, image_size=self.image_size, progress=True
        )
