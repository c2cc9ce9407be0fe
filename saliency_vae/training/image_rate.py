"""Logs the images per second of training and validation."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from saliency_vae.data import Batch


class ImageRate(Callback):
    """Log images per second, over all devices, of training and of validation.

    Args:
        every_n_batches: Training batches between two logged rates.

    Raises:
        ValueError: If every_n_batches is not positive.
    """

    def __init__(self, every_n_batches: int = 50) -> None:
        if every_n_batches < 1:
            raise ValueError(
                f"Expected callbacks.image_rate.every_n_batches >= 1. Found {every_n_batches}."
            )
        self.every_n_batches = every_n_batches
        self._since = 0.0
        self._images = 0
        self._paused: tuple[float, int] | None = None  # seconds and images of the training so far

    def _start(self) -> None:
        self._since, self._images, self._paused = time.perf_counter(), 0, None

    def _log(self, module: LightningModule, name: str) -> None:
        rate = self._images * module.trainer.world_size / (time.perf_counter() - self._since)
        module.log(name, rate, sync_dist=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, as a run that resumes within an epoch does not start that epoch."""
        self._start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start()

    def on_train_batch_start(self, *args: Any) -> None:
        """Continue the training clock after a validation."""
        if self._paused is not None:
            seconds, images = self._paused
            self._start()
            self._since, self._images = self._since - seconds, images

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Log the rate since it was last logged."""
        self._images += len(batch["image"])
        if (batch_idx + 1) % self.every_n_batches == 0:
            self._log(pl_module, "train/images_per_second")
            self._start()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pause the training clock; start the validation clock."""
        training = time.perf_counter() - self._since, self._images
        self._start()
        self._paused = training

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._images += len(batch["image"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the rate of the whole validation."""
        self._log(pl_module, "val/images_per_second")
