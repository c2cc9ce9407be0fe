"""Pictures of explanations after each validation, saved as PNG and sent to the loggers."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import ConcatDataset, Dataset, default_collate

from saliency_vae.data import Batch
from saliency_vae.runtime.autograd import evaluating
from saliency_vae.training.logged import log_picture
from saliency_vae.training.module import VariationalSaliency
from saliency_vae.visualization.figures import explanation_figure, save_figure


class SaliencyPanels(Callback):
    """Draws explanations of the same validation images after each validation, and logs them.

    Args:
        directory: Directory of the PNGs, ``epoch_000.png`` and so on; with several validations per
            epoch ``epoch_000_step_000050.png`` and so on.
        images: Number of images.
        fraction: Share of the pixels kept in the kept view, in (0, 1].

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
        """Draw the explanations, save them and log them."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, VariationalSaliency)
        assert trainer.val_dataloaders is not None
        loader = trainer.val_dataloaders
        dataset: Dataset[Batch] = loader.dataset
        several = (trainer.val_check_batch or 0) < trainer.num_training_batches  # in an epoch
        step = f"_step_{trainer.global_step:06d}" if several else ""
        path = self.directory / f"epoch_{trainer.current_epoch:03d}{step}.png"
        figure = draw_explanations(
            pl_module, dataset, self.images, self.fraction, batch_size=loader.batch_size
        )
        save_figure(figure, path)
        log_picture(trainer.loggers, figure, path, trainer.global_step)


@torch.no_grad()
def draw_explanations(
    module: VariationalSaliency,
    dataset: Dataset[Batch],
    number: int,
    fraction: float = 0.1,
    *,
    batch_size: int,
) -> Any:
    """Draw explanations of images from all over a data set, with their true masks if known.

    Args:
        module: Module of the training.
        dataset: Images.
        number: Number of images.
        fraction: Share of the pixels kept in the kept view, in (0, 1].
        batch_size: Most images explained at once: the batch size of training.
    """
    batch = images_from_all_over(dataset, number)
    images = batch["image"].to(module.device).float() / 255
    explainer, parts = module.explainer, []
    with evaluating(module):
        for part in torch.split(images, batch_size):
            signals = explainer.signals(part, classifier=module.classifiers[-1])
            parts.append(explainer.encode(part, signals=signals))
    mean, log_variance = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "log_variance")
    )
    return explanation_figure(
        images,
        parts[0].like(mean, log_variance),
        module.objective.perturbation(images),
        fraction=fraction,
        masks=batch.get("mask"),
    )


def images_from_all_over(dataset: Dataset[Batch], number: int) -> Batch:
    """Take at most ``number`` images, evenly spread over a data set, as one batch.

    The first images would all be of one class if each directory is a class. With several tasks,
    whose images differ in size, they are taken from the last one.
    """
    dataset = dataset.datasets[-1] if isinstance(dataset, ConcatDataset) else dataset
    size: int = len(dataset)  # type: ignore[arg-type]  # Dataset promises no length
    number = min(number, size)
    batch: Batch = default_collate([dataset[i * size // number] for i in range(number)])
    return batch
