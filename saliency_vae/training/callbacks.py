"""What happens beside training: pictures of explanations and the rate of images."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch.utils.data import Dataset, default_collate

from saliency_vae.data import Batch
from saliency_vae.training.module import VariationalSaliency
from saliency_vae.visualization import explanation_figure, save_figure


class SaliencyPanels(Callback):
    """Explain the same validation images after each validation: to a PNG and to W&B.

    Args:
        directory: Of the PNGs, ``epoch_000.png`` and on.
        images: Number of images.
        fraction: Of the pixels kept in the kept view, in (0, 1].

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, directory: str, images: int = 8, fraction: float = 0.1) -> None:
        if images < 1:
            raise ValueError(f"Expected callbacks.panels.images >= 1. Found {images}.")
        if not 0 < fraction <= 1:
            raise ValueError(f"Expected 0 < callbacks.panels.fraction <= 1. Found {fraction}.")
        self.directory = Path(directory)
        self.images = images
        self.fraction = fraction

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, save and log."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, VariationalSaliency)
        assert trainer.val_dataloaders is not None
        dataset: Dataset[Batch] = trainer.val_dataloaders.dataset
        path = self.directory / f"epoch_{trainer.current_epoch:03d}.png"
        figure = draw_explanations(pl_module, dataset, self.images, self.fraction)
        save_figure(figure, path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(
                    "explanations",
                    [figure],
                    step=trainer.global_step,
                    caption=[f"epoch {trainer.current_epoch}"],
                )


@torch.no_grad()
def draw_explanations(
    module: VariationalSaliency, dataset: Dataset[Batch], number: int, fraction: float = 0.1
) -> Any:
    """Explain images from all over a data set in one figure, with their true masks if known.

    Its first ones would be of one class where directories are classes.
    """
    size: int = len(dataset)  # type: ignore[arg-type]  # Dataset promises no length
    number = min(number, size)
    batch = default_collate([dataset[i * size // number] for i in range(number)])
    images = batch["image"].to(module.device).float() / 255
    training = module.training
    module.eval()
    figure = explanation_figure(
        images,
        module.explainer(images),
        module.objective.perturbation(images),
        fraction=fraction,
        masks=batch.get("mask"),
    )
    module.train(training)
    return figure


class ImageRate(Callback):
    """Log images per second, over all devices, of training and of validation.

    Args:
        every_n_batches: Training batches between two rates.
    """

    def __init__(self, every_n_batches: int = 50) -> None:
        self.every_n_batches = every_n_batches
        self._since = 0.0
        self._images = 0

    def _start(self) -> None:
        self._since, self._images = time.perf_counter(), 0

    def _log(self, module: LightningModule, name: str) -> None:
        rate = self._images * module.trainer.world_size / (time.perf_counter() - self._since)
        module.log(name, rate)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock: a run that is resumed within an epoch does not start that epoch."""
        self._start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start()

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
        """Start the clock."""
        self._start()

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
