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

    Scratch space inside a kernel is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._alive.setdefault(reference.cdata, (reference, storage.nbytes()))
        alive = {k: v for k, v in self._alive.items() if not v[0].expired()}  # type: ignore[no-untyped-call]
        self._alive = alive
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


def peak_memory(function: Callable[[], Any]) -> int:
    """Peak bytes of the tensors that a call makes."""
    with PeakMemory() as memory:
        function()
    peak: int = memory.peak
    return peak


def timed(function: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Call a function and say how many seconds it took, its device's work included."""
    start = time.perf_counter()
    result = function()
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)
    return result, time.perf_counter() - start
