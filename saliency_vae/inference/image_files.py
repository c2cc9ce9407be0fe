"""TODO."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from torch.utils.data import Dataset

from saliency_vae.data import Preprocessing, load_rgb
from saliency_vae.visualization import Pixels, displayed


@dataclass(frozen=True, eq=False)
class View:
    """An image file as the classifier sees it and as people do.

    Arrays rather than tensors: those of a worker process would each hold a file descriptor.

    Attributes:
        name: Path below the directory of the images.
        pixels: As the classifier sees it, (3, h, w).
        shown: For display, (3, H, W).
        size: Height and width of the file's image.
    """

    name: str
    pixels: Pixels
    shown: Pixels
    size: tuple[int, int]


@dataclass(frozen=True)
class Broken:
    """An image file that cannot be explained.

    Attributes:
        name: Path below the directory of the images.
        why: One line.
    """

    name: str
    why: str

    @classmethod
    def by(cls, name: str, error: Exception) -> "Broken":
        """Take what an error says, without the context that was added to its cause."""
        return cls(name, " ".join(str(error.__cause__ or error).split()))


class Views(Dataset[View | Broken]):
    """Image files, read when asked for; one that cannot be read is an item that says so."""

    def __init__(self, root: Path, files: Sequence[Path], preprocessing: Preprocessing) -> None:
        self.root = root
        self.files = files
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> View | Broken:
        name = name_of(self.files[index], self.root)
        try:
            image = load_rgb(self.files[index])
            pixels = self.preprocessing(image).numpy()
        except (OSError, ValueError, MemoryError) as error:
            return Broken.by(name, error)
        return View(name, pixels, displayed(image), (image.height, image.width))


def name_of(file: Path, root: Path) -> str:
    """Name of an image: its path below the directory of the images."""
    return file.relative_to(root).as_posix()


def same_size(views: Iterable[View]) -> Iterator[list[View]]:
    """Group views whose pixels have one shape, so that each group is a batch."""

    def shape(view: View) -> tuple[int, ...]:
        return view.pixels.shape

    for _, group in groupby(sorted(views, key=shape), key=shape):
        yield list(group)
