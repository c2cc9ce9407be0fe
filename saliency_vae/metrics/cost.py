"""What an explanation costs: time, and memory of tensors."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Peak size of the tensors made while it is active, in ``peak`` bytes, on any device.

    What was there before, such as weights, does not count; scratch space inside a kernel is not
    seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._given: dict[int, StorageWeakRef] = {}
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for reference, _ in _storages((args, kwargs)):
            if reference.cdata not in self._made:
                self._given[reference.cdata] = reference  # while it is held no other has its cdata
        result = func(*args, **(kwargs or {}))
        self._made = {k: v for k, v in self._made.items() if not v[0].expired()}  # type: ignore[no-untyped-call]
        for reference, size in _storages(result):
            if reference.cdata not in self._given:
                self._made[reference.cdata] = reference, size
        self.peak = max(self.peak, sum(size for _, size in self._made.values()))
        return result


def _storages(tree: Any) -> list[tuple[StorageWeakRef, int]]:
    storages = [leaf.untyped_storage() for leaf in tree_iter(tree) if isinstance(leaf, Tensor)]
    return [(StorageWeakRef(storage), storage.nbytes()) for storage in storages]  # type: ignore[no-untyped-call]


def peak_memory(function: Callable[[], Any]) -> int:
    """Peak bytes of the tensors that a call makes."""
    with PeakMemory() as memory:
        function()
    peak: int = memory.peak
    return peak


def timed(function: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float]:
    """Call a function and say how many seconds it took, the device's work included."""
    _wait(device)
    start = time.perf_counter()
    result = function()
    _wait(device)
    return result, time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
