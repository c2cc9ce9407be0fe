"""Data module of any directory tree of images."""

import os
from hashlib import sha256
from pathlib import Path

from saliency_vae.data.image_file_datamodule import ImageFileData
from saliency_vae.data.image_file_dataset import ImageFiles
from saliency_vae.data.image_finder import check_images, list_images


class ImageFolderData(ImageFileData):
    """A directory tree of images, split at random into training and validation images.

    The split depends on the seed and the paths below the directory alone. When files are added,
    nearly all others stay in their split.

    Args:
        root: Directory; all images below it, at any depth, are used.
        validation_fraction: Share of the images used for validation, in (0, 1).
        batch_size: Images of a step, over all devices and accumulated batches.
        num_workers: Number of loader processes for each device.
        seed: Seed of the split and the shuffling.
        max_broken_files: Number of broken files allowed on each device; one more stops the run.

    Raises:
        ValueError: If root is not a directory with at least two images, or a number is out of
            range.
    """

    def __init__(
        self,
        root: str | None,
        validation_fraction: float = 0.1,
        batch_size: int = 128,
        num_workers: int = 4,
        seed: int = 0,
        max_broken_files: int = 100,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            max_broken_files=max_broken_files,
        )
        if root is None or not Path(root).is_dir():
            raise ValueError(
                f"Expected data.root=DIR to name a directory tree of images. Found {root}."
            )
        if not 0 < validation_fraction < 1:
            raise ValueError(
                f"Expected 0 < data.validation_fraction < 1. Found {validation_fraction}."
            )
        self.root = Path(root)
        check_images(self.root, least=2)  # one to train on, one to validate with
        self.validation_fraction = validation_fraction

    def setup(self, stage: str) -> None:
        """List the files and split them."""
        paths = list_images(self.root)
        val_size = min(max(1, round(self.validation_fraction * len(paths))), len(paths) - 1)
        val = set(sorted(paths, key=self._place)[:val_size])
        self.train_set, self.val_set = (
            ImageFiles(part, self.preprocessing, self.max_broken_files)
            for part in ([p for p in paths if p not in val], [p for p in paths if p in val])
        )

    def _place(self, path: Path) -> bytes:
        """Sort key of a file in a random order that does not change when files are added."""
        return sha256(os.fsencode(f"{self.seed} {path.relative_to(self.root)}")).digest()
