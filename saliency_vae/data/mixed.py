"""Several tasks (data modules) as one data module; each batch has images of a single task."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, zip_longest
from typing import Any, NamedTuple, cast

import torch
from torch.utils.data import ConcatDataset, Dataset, SequentialSampler

from saliency_vae.data.batch import Batch
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.image_name import image_name
from saliency_vae.data.resumable_loader import EpochOrder

_KEPT = ("image", "mask", "index", "skipped")


class Task(NamedTuple):
    """A task of a training run over several classifiers: the images of one classifier.

    Attributes:
        name: Name of the task.
        data: Its images, which no other task shares.
        weight: Relative share of the batches that are from it, > 0.
    """

    name: str
    data: SaliencyDataModule
    weight: float


class TaskImages(Dataset[Batch]):
    """Images of a task; each item also holds the number of the task.

    Args:
        images: Images.
        task: Number of the task.
    """

    def __init__(self, images: Dataset[Batch], task: int) -> None:
        self.images = images
        self.task = task

    def __len__(self) -> int:
        size: int = len(self.images)  # type: ignore[arg-type]  # Dataset promises no length
        return size

    def __getitem__(self, index: int) -> Batch:
        image = self.images[index]
        kept = {key: value for key, value in image.items() if key in _KEPT}
        return cast(Batch, kept | {"task": self.task})

    def name(self, index: int) -> str:
        """Name an image as the data set of the task does."""
        return image_name(self.images, index)


class TaskOrder(EpochOrder):
    """Sampler over several tasks in which each step holds images of a single task.

    The task of each step is drawn in proportion to the weights, and is the same on all devices. A
    task whose images are used up starts again in a new order.

    Args:
        dataset: Concatenated images of all tasks.
        batch_size: Images of a batch on one device.
        step_size: Images of a step on one device, a multiple of ``batch_size``.
        weights: Weight of each task.
        settings: Further arguments of the DistributedSampler.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        step_size: int,
        weights: Sequence[float],
        **settings: Any,
    ) -> None:
        super().__init__(dataset, **settings)
        self.batch_size, self.step_size, self.weights = batch_size, step_size, weights

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indices from ``start`` on."""
        return iter(self._indices()[self.start :])

    def __len__(self) -> int:
        """Number of images of an epoch on this device, in whole steps."""
        return sum(_sizes(self.dataset)) // self._step * self.step_size

    @property
    def _step(self) -> int:
        """Images of a step over all devices."""
        return self.step_size * self.num_replicas

    def _indices(self) -> list[int]:
        sizes, step = _sizes(self.dataset), self._step
        firsts = [0, *accumulate(sizes)]
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        left: list[list[int]] = [[] for _ in sizes]
        order: list[int] = []
        for task in self._tasks(sum(sizes) // step, generator):
            while len(left[task]) < step:
                left[task] += (torch.randperm(sizes[task], generator=generator)).tolist()
            block, left[task] = left[task][:step], left[task][step:]
            order += [firsts[task] + index for index in block[self.rank :: self.num_replicas]]
        return order

    def _tasks(self, steps: int, generator: torch.Generator) -> list[int]:
        weights = torch.tensor(self.weights, dtype=torch.float64)
        drawn = torch.multinomial(weights, steps, replacement=True, generator=generator)
        tasks: list[int] = drawn.tolist()
        return tasks


class FixedTaskOrder(TaskOrder, SequentialSampler):
    """Sampler with the same order in each epoch: the whole steps of each task, in turn.

    Batches of the tasks alternate, so that the first ones (``trainer.limit_val_batches``) are of
    all tasks.
    """

    def __len__(self) -> int:
        """Number of images on this device, in whole steps of each task."""
        return sum(size // self._step for size in _sizes(self.dataset)) * self.step_size

    def _indices(self) -> list[int]:
        sizes, step = _sizes(self.dataset), self._step
        batches: list[list[range]] = []
        for first, size in zip([0, *accumulate(sizes)], sizes, strict=False):
            own = range(first, first + size // step * step)[self.rank :: self.num_replicas]
            starts = range(0, len(own), self.batch_size)
            batches.append([own[start : start + self.batch_size] for start in starts])
        in_turn = zip_longest(*batches, fillvalue=range(0))
        return [index for turn in in_turn for batch in turn for index in batch]


def _sizes(dataset: Dataset[Any]) -> list[int]:
    """Number of images of each task."""
    assert isinstance(dataset, ConcatDataset)
    return [len(part) for part in dataset.datasets]  # type: ignore[arg-type]  # no length promised


class MixedData(SaliencyDataModule):
    """Images of several tasks; each batch is of one task.

    Args:
        tasks: Tasks; a batch holds the index of its task.
        batch_size: Images of a step, over all devices and accumulated batches.
        num_workers: Number of loader processes for each device.
        seed: Seed of the order.

    Raises:
        ValueError: If there is no task, or a weight is not positive.
    """

    train_set: ConcatDataset[Batch]
    val_set: ConcatDataset[Batch]

    def __init__(
        self, tasks: Sequence[Task] = (), batch_size: int = 32, num_workers: int = 2, seed: int = 0
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if not tasks:
            raise ValueError(
                "Expected tasks beside data=mixed, each with its data and its classifier. Found "
                "none: experiment=universal has some, and another data=OPTION needs none."
            )
        for task in tasks:
            if not task.weight > 0:
                raise ValueError(f"Expected tasks.{task.name}.weight > 0. Found {task.weight}.")
        self.tasks = tasks

    def prepare_data(self) -> None:
        """Prepare the data of each task."""
        for task in self.tasks:
            task.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Set up the data of each task."""
        for task in self.tasks:
            task.data.setup(stage)
        for split in ("train_set", "val_set"):
            if stage == "fit" or split == "val_set":
                images = [getattr(task.data, split) for task in self.tasks]
                numbered = [TaskImages(part, number) for number, part in enumerate(images)]
                setattr(self, split, ConcatDataset(numbered))

    def recorded(self) -> dict[str, Any]:
        """Settings that determine the order of the training images, with each task's weight."""
        weights = [float(task.weight) for task in self.tasks]
        images = _sizes(self.train_set)
        return super().recorded() | {"training images": images, "weights of tasks": weights}

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Let the data module of the batch's task log the files skipped for this batch."""
        data = self.tasks[batch["task"]].data
        data.trainer = self.trainer
        return data.on_before_batch_transfer(batch, dataloader_idx)

    def teardown(self, stage: str) -> None:
        """Tear down the data of each task."""
        for task in self.tasks:
            task.data.teardown(stage)

    def _order(
        self, dataset: Dataset[Any], batch_size: int, step_size: int, **settings: Any
    ) -> TaskOrder:
        if not settings["shuffle"]:
            self._check_whole_steps(dataset, step_size * settings["num_replicas"])
        order = TaskOrder if settings["shuffle"] else FixedTaskOrder
        settings |= {"batch_size": batch_size, "step_size": step_size}
        return order(dataset, weights=[task.weight for task in self.tasks], **settings)

    def _check_whole_steps(self, dataset: Dataset[Any], least: int) -> None:
        for task, size in zip(self.tasks, _sizes(dataset), strict=True):
            if size < least:
                raise ValueError(
                    f"Expected tasks.{task.name}.data with at least data.batch_size={least} images "
                    f"of each kind. Found {size}."
                )
