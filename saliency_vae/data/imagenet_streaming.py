"""Data module of ImageNet, or any tree of its layout, in shards on a disk or an object store."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from lightning.pytorch.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS
from torch.utils.data import DataLoader

from saliency_vae.data.batch import Batch, collate
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.resumable_loader import leave_ctrl_c
from saliency_vae.data.shards import open_split, require_litdata


class ImageNetStreamingData(SaliencyDataModule):
    """Training and validation images from the shards that ``saliency_vae.shard`` makes.

    Each loader process of each device reads its own shards. The order is a function of seed,
    epoch, devices, loader processes and batch size.

    Args:
        root: Directory or URL that holds ``train`` and ``val``.
        cache_dir: Directory for shards downloaded from a URL; None for litdata's default.
        batch_size: Images of a step, over all devices and accumulated batches.
        num_workers: Number of loader processes for each device.
        seed: Seed of the shuffling.

    Raises:
        ValueError: If root is not given or litdata is not installed.
    """

    def __init__(
        self,
        root: str | None,
        cache_dir: str | None = None,
        batch_size: int = 128,
        num_workers: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if root is None:
            raise ValueError(
                "Expected data.root=DIR or URL to name the shards of a data set. Found none. "
                "python -m saliency_vae.shard root=DIR output=DIR makes them."
            )
        require_litdata()
        self.root = root.rstrip("/")
        self.cache_dir = cache_dir

    def recorded(self) -> dict[str, Any]:
        """Settings that determine the order of the training images, without their number.

        litdata knows the number only once there is a loader.
        """
        return {"data.batch_size": self.batch_size, "data.seed": self.seed}

    def setup(self, stage: str) -> None:
        """Open the splits that the stage needs."""
        if stage == "fit":
            self.train_set = self._open("train", shuffle=True)
        self.val_set = self._open("val", shuffle=False)

    def _open(self, split: str, *, shuffle: bool) -> Any:
        return open_split(
            f"{self.root}/{split}",
            self.preprocessing,
            shuffle=shuffle,
            seed=self.seed,
            cache_dir=None if self.cache_dir is None else f"{self.cache_dir}/{split}",
        )

    def train_dataloader(self) -> TRAIN_DATALOADERS:
        """Training images, shuffled by (seed, epoch); incomplete batches and steps are dropped."""
        return self._stream("train", self.train_set)

    def val_dataloader(self) -> EVAL_DATALOADERS:
        """Validation images, each once; every device gets the same number of batches.

        Devices synchronise at each batch, so an extra batch on one of them would block forever.
        On several devices, the images of an incomplete last step are therefore dropped.
        """
        return self._stream("val", self.val_set)

    def _stream(self, split: str, dataset: Any) -> DataLoader[Batch]:
        trainer, shuffle = self.trainer, split == "train"
        assert trainer is not None
        # Lightning warns that workers may repeat images, but litdata gives each its own shards.
        warnings.filterwarnings("ignore", "Your `IterableDataset` has `__len__` defined")
        loader: DataLoader[Batch] = _epoch_loader(
            dataset,
            lambda: trainer.current_epoch if shuffle else 0,
            trainer.accumulate_grad_batches if shuffle else 1,
            batch_size=self.per_device_batch_size(trainer),
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=trainer.strategy.root_device.type == "cuda",
            drop_last=shuffle or trainer.world_size > 1,  # equally many batches on each device
            worker_init_fn=leave_ctrl_c,
        )
        if not len(loader):
            raise ValueError(
                f"Expected enough images in {self.root}/{split} for a batch of "
                f"{loader.batch_size} on each of {trainer.world_size} devices. "
                "Found fewer: data.batch_size is too large."
            )
        return loader


def _epoch_loader(dataset: Any, epoch: Callable[[], int], accumulate: int, **arguments: Any) -> Any:
    """Make litdata's loader with an order that follows the trainer's epoch, not its own count.

    Lightning saves the loader's state in checkpoints, so that a run stopped within an epoch resumes
    there. litdata discards a loaded state only when a pass reaches its end. Lightning counts the
    batches and stops before that, so the next epoch would start after its last image. This loader
    therefore uses a loaded state for one pass only. Its length, at which Lightning ends the epoch,
    is in whole steps of ``accumulate`` batches.
    """
    from litdata import StreamingDataLoader

    class EpochLoader(StreamingDataLoader):  # type: ignore[misc, unused-ignore]  # may be missing
        loaded = False

        def __len__(self) -> int:
            batches: int = super().__len__()
            return batches // accumulate * accumulate

        def load_state_dict(self, obj: dict[str, Any]) -> None:
            super().load_state_dict(obj)
            self.loaded = True

        def __iter__(self) -> Iterator[Batch]:
            if not self.loaded:
                self.restore = False
            self.loaded = False
            if not self.restore:
                self.current_epoch = epoch()  # litdata adds one, as its first epoch is 1
            yield from super().__iter__()

    return EpochLoader(dataset, **arguments)
