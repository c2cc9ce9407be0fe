"""Processes that draw and write explanations while the next ones are computed."""

import io
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any

import torch
from torch import Tensor

from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.inference.outputs import Outputs
from saliency_vae.visualization import Explanation

Save = Callable[[Sequence[Explanation], Sequence[BrokenImage]], None]  # saves a batch


@contextmanager
def saving(outputs: Outputs, processes: int, saved: Callable[[int], object]) -> Iterator[Save]:
    """Yield a function that saves a batch in another process, or in this one if there is none.

    At most one batch per process is pending. All are saved when the block ends.

    Args:
        outputs: Files to write.
        processes: Number of processes; 0 saves in this one.
        saved: Called with the number of images of each saved batch.

    Raises:
        BrokenProcessPool: If one of the processes was killed.
    """
    if not processes:

        def save(explanations: Sequence[Explanation], broken: Sequence[BrokenImage]) -> None:
            outputs.save(explanations, broken)
            saved(len(explanations) + len(broken))

        yield save
        return
    waiting: deque[Future[int]] = deque()
    with ProcessPoolExecutor(processes, initializer=_start) as pool:
        pool.submit(os.getpid).result()  # all processes start before the device is used

        def submit(explanations: Sequence[Explanation], broken: Sequence[BrokenImage]) -> None:
            waiting.append(pool.submit(_save, outputs, packed((explanations, broken))))
            while waiting and (waiting[0].done() or len(waiting) > processes):
                saved(waiting.popleft().result())

        yield submit
        for future in waiting:
            saved(future.result())


def _save(outputs: Outputs, batch: bytes) -> int:
    explanations, broken = pickle.loads(batch)
    outputs.save(explanations, broken)
    return len(explanations) + len(broken)


def _start() -> None:
    """Prepare a saving process: one thread, ignore Ctrl-C, and end with the parent."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent(_: int = 0) -> None:
    """End this process when its parent ends, even if the parent is killed.

    Otherwise it would wait forever to hand over its results or to get work.
    """

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Pickler(pickle.Pickler):
    """Pickles only a tensor's own values, not the whole batch that it is a view of."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return torch.from_numpy, (obj.contiguous().numpy(),)
        return NotImplemented


def packed(value: Any) -> bytes:
    """Pickle values whose tensors are on the CPU."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()
