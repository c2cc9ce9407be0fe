"""Reading image files for explanation; a file that cannot be read is reported, not raised."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from torch.utils.data import Dataset

from saliency_vae.data import MINIMUM_SIZE, Preprocessing, load_rgb
from saliency_vae.visualization import InputImage, displayed


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
        """Write a reason, such as an error, in one line."""
        return cls(name, " ".join(str(reason).split()))


class InputImages(Dataset[InputImage | BrokenImage]):
    """Image files as the classifier sees them, read when they are accessed.

    Args:
        root: Directory that images are named relative to.
        files: Image files below the directory.
        preprocessing: Preprocessing of the classifier.
    """

    def __init__(self, root: Path, files: Sequence[Path], preprocessing: Preprocessing) -> None:
        self.root = root
        self.files = files
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> InputImage | BrokenImage:
        name = name_of(self.files[index], self.root)
        try:
            image = load_rgb(self.files[index])
            pixels = self.preprocessing(image).numpy()
        except (OSError, ValueError, MemoryError) as error:  # unreadable, or too long and narrow
            return BrokenImage.because(name, error.__cause__ or error)
        shown, size = displayed(image), (image.height, image.width)
        return checked(InputImage(name, pixels, shown, size, self.preprocessing, self.files[index]))


def checked(image: InputImage) -> InputImage | BrokenImage:
    """Find an image broken that is too small for an encoder."""
    height, width = image.pixels.shape[1:]
    if min(height, width) >= MINIMUM_SIZE:
        return image
    return BrokenImage(
        image.name,
        f"Expected an image of at least {MINIMUM_SIZE} x {MINIMUM_SIZE} pixels after "
        f"preprocessing. Found {height} x {width}.",
    )


def name_of(file: Path, root: Path) -> str:
    """Name an image by its path below the directory of the images."""
    return file.relative_to(root).as_posix()


def same_size(images: Iterable[InputImage]) -> Iterator[list[InputImage]]:
    """Group images whose pixels have one shape, so that each group is a batch."""

    def shape(image: InputImage) -> tuple[int, ...]:
        return image.pixels.shape

    for _, group in groupby(sorted(images, key=shape), key=shape):
        yield list(group)
