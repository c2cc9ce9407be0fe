"""A loader that begins where the training loop stands: in a resumed run, within an epoch."""

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, DistributedSampler


class EpochOrder(DistributedSampler[Any]):
    """Order of the images of an epoch: a function of (seed, epoch, rank).

    Attributes:
        start: Images to leave out at the beginning.
    """

    start = 0

    def __iter__(self) -> Iterator[Any]:
        """Give the indices from ``start`` on."""
        return iter(list(super().__iter__())[self.start :])


class ResumableLoader(DataLoader[Any]):
    """A DataLoader whose pass begins behind the batches that are done already.

    Which those are is asked at the first batch of a pass, and not before: Lightning makes the
    iterator of a resumed run before it restores epoch and batch, and worker processes would then
    begin with images of another epoch.

    Args:
        dataset: To load from.
        order: Of its images.
        batches_done: Of the present epoch; None for none, always.
        settings: Of the DataLoader.
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
        """Give the batches that are not done yet."""
        if self._batches_done is not None:
            assert self.batch_size is not None
            self._order.start = self._batches_done() * self.batch_size
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Say to Lightning that it may resume within an epoch; it keeps the batch index itself."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Have nothing to load."""
