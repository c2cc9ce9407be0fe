"""A data set of image files in which readable files replace broken ones."""

from collections.abc import Callable, Collection, Iterable
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.data.batch import Batch
from saliency_vae.data.image_reader import load_rgb
from saliency_vae.data.path_list import PathList
from saliency_vae.data.preprocessing import TooLargeError
from saliency_vae.runtime.text import one_line

_NAMED = 10  # most broken files named in a message


class ImageFiles(Dataset[Batch]):
    """Image files that are read on access; the next readable file replaces a broken one.

    The replacement depends on the files alone, not on the process or the order of reading. In an
    item, ``index`` is the index of the file that was read, and ``skipped`` the number of broken
    files that were skipped before it.

    Args:
        paths: Paths of the files.
        preprocess: Function from an RGB image to uint8 (3, H, W), of the same size for all.
        max_broken: Number of consecutive broken files that may be skipped.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        preprocess: Callable[[Image.Image], Tensor],
        max_broken: int = 0,
    ) -> None:
        self.paths = PathList(paths)
        self.preprocess = preprocess
        self.max_broken = max_broken

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Batch:
        broken: list[str] = []
        while True:
            place = (index + len(broken)) % len(self)
            image = self.read(place)
            if isinstance(image, Tensor):
                return {
                    "image": image,
                    "index": torch.tensor(place),
                    "skipped": torch.tensor(len(broken)),
                }
            broken.append(image)
            if len(broken) > self.max_broken or len(broken) == len(self):
                raise too_many_broken(broken, self.max_broken)

    def name(self, index: int) -> str:
        """Name of an image: the path of its file."""
        return str(self.paths[index])

    def read(self, index: int) -> Tensor | str:
        """Read one file: return the image, or one line that names the broken file and its error."""
        path = self.paths[index]
        try:
            return self.preprocess(load_rgb(path))
        except (OSError, TooLargeError, MemoryError) as error:
            return f"{str(path)!r} ({one_line(error.__cause__ or error)})"


def too_many_broken(broken: Collection[str], limit: int) -> ValueError:
    """Make the error for more broken files than are allowed.

    Args:
        broken: Descriptions of the broken files; the message names the first ones.
        limit: Number of broken files that are allowed.
    """
    named = "; ".join(islice(broken, _NAMED))
    more = f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    return ValueError(
        f"Expected at most data.max_broken_files={limit} image files that cannot be read, and "
        f"one that can. Found {len(broken)}: {named}{more}."
    )
