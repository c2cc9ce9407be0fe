"""Base class of data modules of image files; it skips, logs and counts broken files."""

import logging
from pathlib import Path
from typing import Any

from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.image_file_dataset import ImageFiles, too_many_broken

_log = logging.getLogger(__name__)


class ImageFileData(SaliencyDataModule):
    """Base class of data modules whose images are files.

    Skipped files are counted batch by batch, so in the same order for any number of loader
    processes.

    Args:
        batch_size: Images of a step, over all devices and accumulated batches.
        num_workers: Number of loader processes for each device.
        seed: Seed of the shuffling.
        max_broken_files: Number of broken files allowed on each device; one more stops the run.

    Raises:
        ValueError: If a number is out of range.
    """

    train_set: ImageFiles
    val_set: ImageFiles

    def __init__(
        self, *, batch_size: int, num_workers: int, seed: int, max_broken_files: int
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if max_broken_files < 0:
            raise ValueError(f"Expected data.max_broken_files >= 0. Found {max_broken_files}.")
        self.max_broken_files = max_broken_files
        self.broken: dict[Path, str] = {}

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Log the files that were skipped for this batch, each once.

        Raises:
            ValueError: If more files than allowed are broken.
        """
        assert self.trainer is not None
        files = self.train_set if self.trainer.training else self.val_set
        for index, skipped in zip(batch["index"].tolist(), batch["skipped"].tolist(), strict=True):
            for place in range(index - skipped, index):
                self._log_broken(files, place)
        return batch

    def _log_broken(self, files: ImageFiles, place: int) -> None:
        path = files.paths[place]
        if path in self.broken:
            return
        found = files.read(place)
        self.broken[path] = found if isinstance(found, str) else f"{str(path)!r} (for a moment)"
        _log.warning("Skipped an image file that cannot be read: %s", self.broken[path])
        if len(self.broken) > self.max_broken_files:
            raise too_many_broken(self.broken.values(), self.max_broken_files)

    def teardown(self, stage: str) -> None:
        """Log how many files were skipped, and which."""
        if self.broken:
            _log.warning(
                "%d image files could not be read; the next that can stood in for each: %s",
                len(self.broken),
                "; ".join(self.broken.values()),
            )
