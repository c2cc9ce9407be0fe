"""A data loader that starts at the training loop's batch, so that runs resume within an epoch."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler


class EpochOrder(DistributedSampler[Any]):
    """Sampler whose order is a function of (seed, epoch, rank).

    Attributes:
        start: Number of images to skip at the beginning.
        step_size: Images of a step on this device; an incomplete last step is left out.
    """

    start = 0
    step_size = 1

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the indices from ``start`` on."""
        return iter(list(super().__iter__())[self.start : len(self)])

    def __len__(self) -> int:
        """Number of images of an epoch on this device, in whole steps."""
        return self.num_samples // self.step_size * self.step_size


class FixedOrder(EpochOrder, SequentialSampler):
    """Sampler with the same order in each epoch, which Lightning recognises by its base class."""


def leave_ctrl_c(worker: int) -> None:
    """Ignore Ctrl-C in a loader process: the terminal sends it to all, the trainer handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class ResumableLoader(DataLoader[Any]):
    """A DataLoader that skips the batches of the current epoch that are already done.

    Their number is read only when the first batch of a pass is requested. In a resumed run,
    Lightning makes the iterator before it restores epoch and batch; reading the number then would
    start the loader processes with images of the wrong epoch.

    Args:
        dataset: Data set to load from.
        order: Order of its images.
        batches_done: Function that returns the number of batches done in the current epoch; None
            if every pass starts at the beginning.
        settings: Further arguments of the DataLoader.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        order: EpochOrder,
        batches_done: Callable[[], int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(dataset, sampler=order, **settings)
        self._order = order
        self._batches_done = batches_done

    def __iter__(self) -> Any:
        """Iterate over the batches that are not done yet."""
        if self._batches_done is not None:
            assert self.batch_size is not None
            self._order.start = self._batches_done() * self.batch_size
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Empty state, which lets Lightning resume within an epoch from its own batch index."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the empty state."""
