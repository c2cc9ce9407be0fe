"""Base class of the data modules: batches of uint8 images, converted to float on the device."""

from collections.abc import Callable, Sized
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.data.batch import Batch, collate
from saliency_vae.data.preprocessing import Preprocessing
from saliency_vae.data.resumable_loader import (
    EpochOrder,
    FixedOrder,
    ResumableLoader,
    leave_ctrl_c,
)
from saliency_vae.runtime.device import loader_processes

# Maps images (B, 3, H, W) in [0, 1] to class probabilities (B, classes).
Predict = Callable[[Tensor], Tensor]


class SaliencyDataModule(LightningDataModule):
    """Base class of the data modules.

    Subclasses set ``train_set`` and ``val_set`` in ``setup``. Those that have test images with true
    masks also set ``has_test_set`` and ``test_set``.

    Args:
        batch_size: Images of a step, over all devices and accumulated batches.
        num_workers: Number of loader processes for each device, at most one for each core.
        seed: Seed of the shuffling.

    Raises:
        ValueError: If the number of loader processes is negative.
    """

    train_set: Dataset[Batch]
    val_set: Dataset[Batch]
    test_set: Dataset[Batch]  # only where has_test_set
    has_test_set = False

    def __init__(self, *, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        if num_workers < 0:
            raise ValueError(f"Expected data.num_workers >= 0. Found {num_workers}.")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.preprocessing = Preprocessing()

    def per_device_batch_size(self, trainer: Trainer) -> int:
        """Number of images in each batch of one device.

        Args:
            trainer: Trainer, which sets the number of devices and of accumulated batches per step.

        Raises:
            ValueError: If the images of a step cannot be divided evenly.
        """
        devices, accumulate = trainer.world_size, trainer.accumulate_grad_batches
        if self.batch_size < 1 or self.batch_size % (devices * accumulate):
            raise ValueError(
                "Expected data.batch_size, the number of images a step over all devices, to be a "
                f"positive multiple of {devices} devices x {accumulate} accumulated batches "
                f"= {devices * accumulate}. Found {self.batch_size}."
            )
        return self.batch_size // (devices * accumulate)

    def recorded(self) -> dict[str, Any]:
        """Settings that determine the order of the training images, plain values by name."""
        recorded: dict[str, Any] = {"data.batch_size": self.batch_size, "data.seed": self.seed}
        if isinstance(self.train_set, Sized):
            recorded["training images"] = len(self.train_set)
        return recorded

    def choose_images(self, predict: Predict, number: int | None) -> str:
        """Of the images to evaluate on, keep those that suit a classifier; by default, all.

        The images to evaluate on are the test images, or the validation images if there are no
        test images.

        Args:
            predict: Function that returns the classifier's class probabilities.
            number: Number of images wanted; None for all.

        Returns:
            Description of the images kept, for the report; empty if no choice was made.
        """
        return ""

    def train_dataloader(self) -> TRAIN_DATALOADERS:
        """Training images, shuffled by (seed, epoch) alone; an incomplete last step is dropped."""
        return self._loader(self.train_set, shuffle=True)

    def val_dataloader(self) -> EVAL_DATALOADERS:
        """Validation images, in order."""
        return self._loader(self.val_set, shuffle=False)

    def test_dataloader(self) -> EVAL_DATALOADERS:
        """Test images, in order."""
        return self._loader(self.test_set, shuffle=False)

    def _loader(self, dataset: Dataset[Batch], *, shuffle: bool) -> ResumableLoader:
        assert self.trainer is not None
        size = len(dataset)  # type: ignore[arg-type]  # torch's Dataset promises no length
        if not size:
            raise ValueError("Expected at least one image to validate or test on. Found none.")
        if shuffle and size < self.batch_size:
            raise ValueError(
                f"Expected data.batch_size <= {size} training images. Found {self.batch_size}."
            )
        # Lightning calls set_epoch, so a resumed run sees the same order as an uninterrupted one.
        shuffles = shuffle and not getattr(self.trainer, "overfit_batches", 0)
        batch_size = self.per_device_batch_size(self.trainer)
        step_size = batch_size * self.trainer.accumulate_grad_batches
        order = self._order(
            dataset,
            batch_size,
            step_size,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
            shuffle=shuffles,
            seed=self.seed,
            drop_last=False,
        )
        if shuffle:  # whole steps, the same ones however each is divided into batches
            order.step_size = step_size
        return ResumableLoader(
            dataset,
            order,
            self._batches_done if shuffle else None,
            batch_size=batch_size,
            collate_fn=collate,
            num_workers=loader_processes(self.num_workers),
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            drop_last=shuffle,
            worker_init_fn=leave_ctrl_c,
        )

    def _order(
        self, dataset: Dataset[Batch], batch_size: int, step_size: int, **settings: Any
    ) -> EpochOrder:
        """Make the sampler of a data set from the arguments of a DistributedSampler.

        Args:
            dataset: Data set to order.
            batch_size: Images of a batch on one device.
            step_size: Images of a step on one device.
            settings: Arguments of the DistributedSampler.
        """
        return (EpochOrder if settings["shuffle"] else FixedOrder)(dataset, **settings)

    def _batches_done(self) -> int:
        assert self.trainer is not None
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Convert uint8 images to float in [0, 1], on the device: uint8 is faster to transfer."""
        result: Batch = batch | {"image": batch["image"].float().div_(255)}
        return result
