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
    """Save batches in processes of their own, or with 0 in this one, as they are given.

    No more batches than there are processes are waited for; at the end all are saved.

    Args:
        outputs: Files to write.
        processes: Number of processes.
        saved: Told how many images have been saved, batch by batch.

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
        pool.submit(os.getpid).result()  # so that all have started before the device is used

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
    """Prepare a process that saves: one thread, and Ctrl-C, which reaches all, is not for it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent(_: int = 0) -> None:
    """Let this process end when the one that started it ends, even if that was killed.

    Otherwise it would wait forever to pass on what it has read or to be given work.
    """

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Pickler(pickle.Pickler):
    """Pickles tensors as their values alone, not with all of the batch that they are a view of."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return torch.from_numpy, (obj.contiguous().numpy(),)
        return NotImplemented


def packed(value: Any) -> bytes:
    """Pickle values whose tensors are on the CPU."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()
