"""Reading image files for explanation; a file that cannot be read is reported, not raised."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from saliency_vae.data import MINIMUM_SIZE, Preprocessing, TooLargeError, load_rgb
from saliency_vae.runtime.text import one_line
from saliency_vae.visualization import InputImage, displayed

_LARGEST = 1024  # largest side, in pixels, of an image that is neither resized nor cropped
_NOT_SHOWN = np.empty((3, 0, 0), dtype=np.uint8)


@dataclass(frozen=True)
class BrokenImage:
    """An image that cannot be explained.

    Attributes:
        name: Path below the directory of the images.
        reason: Why it cannot be explained, in one line.
    """

    name: str
    reason: str

    @classmethod
    def because(cls, name: str, reason: object) -> "BrokenImage":
        """Make a broken image; the reason, such as an error, is written in one line."""
        return cls(name, one_line(reason))


class InputImages(Dataset[InputImage | BrokenImage]):
    """Image files as the classifier sees them, read and preprocessed on access.

    Args:
        root: Directory that images are named relative to.
        files: Image files below the directory.
        preprocessing: Preprocessing of the classifier.
        shown: Names of the images that are also read at the size of a panel; for others,
            ``shown`` is an empty array (3, 0, 0).
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[Path],
        preprocessing: Preprocessing,
        *,
        shown: Container[str] = (),
    ) -> None:
        self.root = root
        self.files = files
        self.preprocessing = preprocessing
        self.shown = shown

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> InputImage | BrokenImage:
        name = name_of(self.files[index], self.root)
        try:
            image = load_rgb(self.files[index])
            pixels = self.preprocessing(image).numpy()
        except (OSError, TooLargeError, MemoryError) as error:
            return BrokenImage.because(name, error.__cause__ or error)
        size = image.height, image.width
        shown = displayed(image) if name in self.shown else _NOT_SHOWN
        return checked(InputImage(name, pixels, shown, size, self.preprocessing, self.files[index]))


def checked(image: InputImage) -> InputImage | BrokenImage:
    """Return an image, or a broken one in its place if it is too small or too large.

    An encoder needs a minimum size. A photograph of several megapixels that is explained as it is
    fills the memory, which would end the explanations of all other images, too.
    """
    height, width = image.pixels.shape[1:]
    if min(height, width) < MINIMUM_SIZE:
        return BrokenImage(
            image.name,
            f"Expected an image of at least {MINIMUM_SIZE} x {MINIMUM_SIZE} pixels after "
            f"preprocessing. Found {height} x {width}.",
        )
    if image.preprocessing == Preprocessing() and max(height, width) > _LARGEST:
        return BrokenImage(
            image.name,
            f"Expected an image of at most {_LARGEST} pixels a side, as this classifier has no "
            f"preprocessing. Found {height} x {width}: FrozenClassifier(..., preprocessing="
            "Preprocessing(resize_size=256, crop_size=(224, 224))), or with classifier=custom "
            "classifier.resize_size=256 classifier.crop_size=224, resizes photographs.",
        )
    return image


def name_of(file: Path, root: Path) -> str:
    """Name an image by its path below the directory of the images."""
    return file.relative_to(root).as_posix()


def same_size(images: Iterable[InputImage]) -> Iterator[list[InputImage]]:
    """Group images by the shape of their pixels, so that each group can be a batch."""

    def shape(image: InputImage) -> tuple[int, ...]:
        return image.pixels.shape

    for _, group in groupby(sorted(images, key=shape), key=shape):
        yield list(group)
