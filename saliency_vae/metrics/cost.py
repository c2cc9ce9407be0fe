"""Cost of an explanation: time, and memory of its tensors."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Records the peak size of the tensors created while it is active, on any device.

    Tensors that existed before, such as weights, do not count; nor does scratch memory inside a
    kernel.

    Attributes:
        peak: Peak size in bytes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.peak = 0
        self._given: dict[int, StorageWeakRef] = {}
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        self._most = 0  # bytes allocated, including those freed since the last count

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for storage in self._unknown([*args, *(kwargs or {}).values()]):
            reference = _weak(storage)
            self._given[reference.cdata] = reference  # holding the reference keeps cdata unique
        result = func(*args, **(kwargs or {}))
        for storage in self._unknown(result):
            reference, size = _weak(storage), storage.nbytes()
            self._made[reference.cdata] = reference, size
            self._most += size
        if self._most > self.peak:
            self._count()
        return result

    def _unknown(self, tree: Any) -> Iterator[UntypedStorage]:
        """Yield the new storages of the tensors in nested lists and tuples."""
        if isinstance(tree, Tensor):
            storage = tree.untyped_storage()
            if storage._cdata not in self._made and storage._cdata not in self._given:
                yield storage
        elif isinstance(tree, list | tuple):
            for branch in tree:
                yield from self._unknown(branch)

    def _count(self) -> None:
        self._made = {k: v for k, v in self._made.items() if not v[0].expired()}  # type: ignore[no-untyped-call]
        self._most = sum(size for _, size in self._made.values())
        self.peak = max(self.peak, self._most)


def _weak(storage: UntypedStorage) -> StorageWeakRef:
    return StorageWeakRef(storage)  # type: ignore[no-untyped-call]  # torch's


def peak_memory(function: Callable[[], Any]) -> int:
    """Measure the peak size in bytes of the tensors that a call creates.

    Example:
        >>> peak_memory(lambda: torch.zeros(1000).double())
        12000
    """
    with PeakMemory() as memory:
        function()
    peak: int = memory.peak
    return peak


def timed(function: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float]:
    """Call a function and measure its time, including pending work of the device.

    Args:
        function: Function to call.
        device: Device to synchronise before and after the call.

    Returns:
        Result of the function, and its time in seconds.

    Example:
        >>> result, seconds = timed(lambda: torch.ones(2), torch.device("cpu"))
        >>> result, seconds > 0
        (tensor([1., 1.]), True)
    """
    _wait(device)
    start = time.perf_counter()
    result = function()
    _wait(device)
    return result, time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
