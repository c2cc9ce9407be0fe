"""Drawing cluttered digits (after Mnih et al. 2014), whose true mask is known.

A real handwritten digit is pasted at a random place on coloured noise, among fragments of other
digits. Every image is a function of (seed, split, index) alone.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Split = Literal["train", "val", "test"]
Ink = NDArray[np.float32]

# load_digits holds its 13 writers one after the other; whole blocks keep a writer in one split.
_WRITERS = np.array_split(np.arange(1797), 13)
_SPLIT_WRITERS: dict[Split, tuple[int, ...]] = {
    "train": (0, 1, 2, 4, 5, 7, 8, 10, 11),
    "val": (3, 9),
    "test": (6, 12),
}
_SPLIT_KEY: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_STROKE = 0.5  # ink above this belongs to the digit's true mask
_SIDES = (20, 28)  # smallest and largest side of a digit in pixels, in an image of 48x48
_FRAGMENTS = 8  # fragments of other digits in an image
_FRAGMENT_SIDE = 9  # pixels, in an image of 48x48


class DigitPainter:
    """Draws the images of one split of the data set.

    Args:
        split: ``train``, ``val`` or ``test``, which share no writers.
        seed: Seed of the data set.
        image_size: Height and width of the images in pixels.

    Attributes:
        ink: Ink of the handwritten digits, in [0, 1], (n, 8, 8).
        labels: Their labels, (n,).
    """

    def __init__(self, split: Split, *, seed: int, image_size: int) -> None:
        from sklearn.datasets import load_digits  # takes half a second

        digits = load_digits()
        part = np.concatenate([_WRITERS[writer] for writer in _SPLIT_WRITERS[split]])
        self.ink: Ink = (digits.images[part] / 16).astype(np.float32)
        self.labels: NDArray[np.int64] = digits.target[part].astype(np.int64)
        self.split: Split = split
        self.seed = seed
        self.image_size = image_size
        self._enlarged: dict[tuple[int, int], Ink] = {}  # enlarging takes most of the time

    def draw(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], int]:
        """Draw one image.

        Args:
            index: Index of the image in its split.

        Returns:
            Image (H, W, 3), true mask of the digit (H, W), label.
        """
        rng = np.random.default_rng((self.seed, _SPLIT_KEY[self.split], index))
        size, scale = self.image_size, self.image_size / 48
        smallest, largest = (round(scale * side) for side in _SIDES)
        uniform = rng.random((_FRAGMENTS + 1, 7))  # one row per fragment, then one for the digit
        which = (uniform[:, 0] * len(self.labels)).astype(int).tolist()
        sides = (smallest + uniform[:, 1] * (largest + 1 - smallest)).astype(int).tolist()
        places = uniform[:, 2:4].tolist()
        colours = uniform[:, 4:7].astype(np.float32)

        canvas = 0.08 * rng.standard_normal((size, size, 3), dtype=np.float32)
        canvas += rng.uniform(0.1, 0.5, 3).astype(np.float32)
        fragment_side = max(2, round(scale * _FRAGMENT_SIDE))
        for i, corner in enumerate(rng.random((_FRAGMENTS, 2)).tolist()):
            room = sides[i] - fragment_side + 1
            top, left = int(corner[0] * room), int(corner[1] * room)
            whole = self.enlarged(which[i], sides[i])
            fragment = whole[top : top + fragment_side, left : left + fragment_side]
            _paste(canvas, fragment, places[i], 0.4 + 0.6 * colours[i])
        digit = self.enlarged(which[-1], sides[-1])
        where = _paste(canvas, digit, places[-1], 0.6 + 0.4 * colours[-1])

        mask = np.zeros((size, size), dtype=np.bool_)
        mask[where] = digit > _STROKE
        image = (255 * canvas.clip(0, 1)).round().astype(np.uint8)
        return image, mask, int(self.labels[which[-1]])

    def enlarged(self, which: int, side: int) -> Ink:
        """Ink of a digit enlarged to (side, side)."""
        if (which, side) not in self._enlarged:
            ink = Image.fromarray(self.ink[which]).resize((side, side), Image.Resampling.BICUBIC)
            self._enlarged[which, side] = np.asarray(ink, dtype=np.float32).clip(0, 1)
        return self._enlarged[which, side]


def _paste(canvas: Ink, ink: Ink, place: list[float], colour: Ink) -> tuple[slice, slice]:
    """Paste coloured ink on a canvas (H, W, 3), at a position in [0, 1)^2; return its slices."""
    height, width = ink.shape
    top = int(place[0] * (canvas.shape[0] - height + 1))
    left = int(place[1] * (canvas.shape[1] - width + 1))
    where = slice(top, top + height), slice(left, left + width)
    canvas[where] += ink[..., None] * (colour - canvas[where])
    return where
