"""TODO."""

from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.data.batch import Batch
from saliency_vae.data.images import load_rgb

_NAMED = 10  # broken files in a message


class ImageFiles(Dataset[Batch]):
    """Image files, read when asked for; for a broken one stands the next that can be read.

    So what stands in for a file depends on the files alone, not on who reads them, nor when.
    ``index`` of an item says which file was read, ``skipped`` how many before it were broken.

    Args:
        paths: Of the files.
        preprocess: RGB image to uint8 (3, H, W), the same size for all.
        max_broken: Broken files in a row that are skipped.
    """

    def __init__(
        self,
        paths: list[Path],
        preprocess: Callable[[Image.Image], Tensor],
        max_broken: int = 0,
    ) -> None:
        self.paths = paths
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
        """Name an image by its file."""
        return str(self.paths[index])

    def read(self, index: int) -> Tensor | str:
        """Read one file: the image, or which file is broken and why, in one line."""
        path = self.paths[index]
        try:
            return self.preprocess(load_rgb(path))
        except (OSError, ValueError, MemoryError) as error:
            return f"{str(path)!r} ({' '.join(str(error.__cause__ or error).split())})"


def too_many_broken(broken: Collection[str], limit: int) -> ValueError:
    """Error of more broken files than are allowed, that names the first of them."""
    named = "; ".join(islice(broken, _NAMED))
    more = f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    return ValueError(
        f"Expected at most data.max_broken_files={limit} image files that cannot be read, and "
        f"one that can. Found {len(broken)}: {named}{more}."
    )
