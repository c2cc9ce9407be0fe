"""Ends all processes of a run on several devices of one machine when one of them fails.

Otherwise a process would wait for a dead one until its communication times out, half an hour on
GPUs. So the first process watches those that it has started, and they watch it.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any, NoReturn

import torch
from lightning.pytorch import Trainer

from saliency_vae.training.checkpoints import last_checkpoint
from saliency_vae.training.resume import how_to_resume

_EVERY = 1.0  # seconds between two checks
_GRACE = 2.0  # seconds for another failing process to report why
_STARTED_BY = "SALIENCY_VAE_STARTED_BY"
_OBSERVER = "child-process-observer"  # Lightning's thread, which kills this process silently

Processes = Sequence["Popen[Any]"]


@contextmanager
def ending_with_parent(run: Path) -> Iterator[None]:
    """End this process when the first process of the run, which started it, is gone.

    Args:
        run: Directory of the run.
    """
    over = threading.Event()
    parent = os.environ.get(_STARTED_BY)
    if parent and _local_rank() > 0:
        threading.Thread(target=_watch_parent, args=(int(parent), run, over), daemon=True).start()
    os.environ[_STARTED_BY] = str(os.getpid())  # for the processes that Lightning starts
    try:
        yield
    finally:
        over.set()
        os.environ.pop(_STARTED_BY, None)


@contextmanager
def ending_with_children(trainer: Trainer, run: Path) -> Iterator[None]:
    """End the first process of a run when one that it started fails, and the other way round.

    Args:
        trainer: Trainer of the run.
        run: Directory of the run, for the message.

    Raises:
        ChildProcessError: If the communication was lost; names the process that is gone.
    """
    over = threading.Event()
    threading.Thread(target=_watch_children, args=(trainer, run, over), daemon=True).start()
    try:
        yield
    except BaseException as error:
        over.set()
        if trainer.world_size > 1 and _is_lost_connection(error):
            _report_lost(trainer, run)
        raise
    finally:
        over.set()
        if sys.exc_info()[0] is not None:
            _kill(_children(trainer))  # they wait for this one


def _watch_parent(parent: int, run: Path, over: threading.Event) -> None:
    while not over.wait(_EVERY):
        if os.getppid() != parent:
            if _local_rank() == 1:
                _end(f"Expected the run's first process to go on. It ended. {how_to_resume(run)}")
            os._exit(1)


def _watch_children(trainer: Trainer, run: Path, over: threading.Event) -> None:
    while not over.wait(_EVERY):
        _dismiss_observer()
        if _failed(_children(trainer)) and not over.wait(_GRACE):
            _kill(_children(trainer))
            _end(_message(trainer, run))


def _dismiss_observer() -> None:
    for thread in threading.enumerate():
        if thread.name == _OBSERVER:
            thread._child_processes = []  # type: ignore[attr-defined]


def _children(trainer: Trainer) -> Processes:
    """Processes that Lightning has started; none where torchrun or SLURM start them all."""
    return getattr(trainer.strategy.launcher, "procs", [])


def _failed(children: Processes) -> list[tuple[int, int]]:
    """Devices whose processes failed, with their statuses; those killed by a signal come first."""
    ended = [(device, child.poll()) for device, child in enumerate(children, start=1)]
    return sorted(((d, status) for d, status in ended if status), key=lambda pair: pair[1])


def _kill(children: Processes) -> None:
    for child in children:
        if child.poll() is None:
            child.kill()


def _is_lost_connection(error: BaseException) -> bool:
    if not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _report_lost(trainer: Trainer, run: Path) -> NoReturn:
    """Report which process is gone, or leave that to the first process, which knows."""
    if not trainer.is_global_zero:
        time.sleep(_GRACE)  # until the watch has seen whether the first process is gone
        raise SystemExit(1) from None
    until = time.monotonic() + _GRACE
    while not _failed(_children(trainer)) and time.monotonic() < until:
        time.sleep(0.05)
    raise ChildProcessError(_message(trainer, run)) from None


def _message(trainer: Trainer, run: Path) -> str:
    found = "another one has ended"
    for device, status in _failed(_children(trainer))[:1]:
        ended = signal.Signals(-status).name if status < 0 else f"status {status}"
        found = f"that of device {device} ended by {ended}"
    return (
        f"Expected all {trainer.world_size} processes of the run to go on. Found {found}. "
        f"Last checkpoint: {last_checkpoint(trainer)}. {how_to_resume(run)}"
    )


def _end(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()
    os._exit(1)


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))
