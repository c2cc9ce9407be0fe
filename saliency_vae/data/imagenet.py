"""Data module of ImageNet, or any tree of its layout: ``train/<class>/*``, ``val/<class>/*``."""

from pathlib import Path

from saliency_vae.data.image_file_datamodule import ImageFileData
from saliency_vae.data.image_file_dataset import ImageFiles
from saliency_vae.data.image_finder import check_images, list_images


class ImageNetData(ImageFileData):
    """Training and validation images of an ImageNet tree; the class folders are not used.

    Args:
        root: Directory that holds ``train`` and ``val``.
        batch_size: Images of a step, over all devices and accumulated batches.
        num_workers: Number of loader processes for each device.
        seed: Seed of the shuffling.
        max_broken_files: Number of broken files allowed on each device; one more stops the run.

    Raises:
        ValueError: If root is not given, lacks ``train`` or ``val``, or one of them has no image.
    """

    def __init__(
        self,
        root: str | None,
        batch_size: int = 128,
        num_workers: int = 8,
        seed: int = 0,
        max_broken_files: int = 100,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            max_broken_files=max_broken_files,
        )
        if root is None:
            raise ValueError(
                "Expected data.root=DIR (or the environment variable IMAGENET_ROOT) to name a "
                "directory with train/<class>/* and val/<class>/*. Found neither. "
                "To try the built-in data instead: experiment=cluttered_digits."
            )
        self.root = Path(root)
        for part in ("train", "val"):
            if not (self.root / part).is_dir():
                raise ValueError(
                    f"Expected data.root={root} to hold the directories train and val. "
                    f"Not found: {self.root / part}. "
                    "For a tree without them: data=image_folder; for built-in data: "
                    "experiment=cluttered_digits."
                )
            check_images(self.root / part)

    def setup(self, stage: str) -> None:
        """List the files of the splits that the stage needs."""
        if stage == "fit":
            self.train_set = self._images("train")
        self.val_set = self._images("val")

    def _images(self, part: str) -> ImageFiles:
        paths = list_images(self.root / part)
        return ImageFiles(paths, self.preprocessing, self.max_broken_files)
