"""A run that takes a second, in a process of its own that can be killed.

The processes are forked from one that has imported everything already: importing takes longer than
the run. That one is itself started anew, since pytest's process has threads, which must not be
forked.
"""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from saliency_vae.cli.errors import one_line_errors
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.models.encoders import PaperEncoder
from saliency_vae.models.explainer import Explainer
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Noise
from saliency_vae.runtime.loggers import MetricsCSV
from saliency_vae.topk import SoftTopK
from saliency_vae.training.checkpoints import RunCheckpoints
from saliency_vae.training.finite_check import StopAtNonFinite
from saliency_vae.training.module import VariationalSaliency
from tests.conftest import BlobsData, blob_classifier, compose_once, make_trainer

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    [
        __name__,
        "tests.faults.command_run",
        "tests.commands.test_many_images",
        "tests.commands.test_evaluate_in_parts",
        "captum.attr",
    ]
)


@dataclass
class Settings:
    """Settings of a small run of 4 steps an epoch.

    Attributes:
        trainer: Further arguments of the Trainer.
        workers: Number of loader processes.
        every_n_steps: Steps between two checkpoints.
        callbacks: Further callbacks.
        channels: Channels of the encoder.
        network: Network of the classifier, if not the usual one.
    """

    trainer: dict[str, Any] = field(default_factory=dict)
    workers: int = 0
    every_n_steps: int = 3
    callbacks: list[Callback] = field(default_factory=list)
    channels: int = 8
    network: nn.Module | None = None


def last(run: Path) -> Path:
    return run / "last.ckpt"


def fit(run: Path, settings: Settings | None = None, kill_at: int | None = None) -> None:
    """Train, from the last checkpoint if there is one, as the command does.

    Everything is used in which a resumed run could differ: noise in sampling, fraction and
    perturbation, a schedule, an annealed temperature, momentum, batch norm.

    Args:
        run: Directory of the run.
        settings: Settings of the run.
        kill_at: Number of the function call, within Python or into C, at which the process kills
            itself; 0 only counts them, None does not, which is faster.
    """
    settings = settings or Settings()
    torch.manual_seed(0)
    explainer = Explainer(
        PaperEncoder((settings.channels, 8)), prior=partial(KroneckerNormal, correlation=0.9)
    )
    classifier = blob_classifier()
    if settings.network is not None:
        classifier.network = settings.network
    module = VariationalSaliency(
        explainer,
        classifier,
        Objective(SoftTopK((0.1, 0.3), 0.1, initial_temperature=0.5), Noise(), 0.01),
        partial(torch.optim.Adam, lr=1e-2),
        scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-2),
        confidence_width=2,
    )
    data = BlobsData()
    data.num_workers = settings.workers
    callbacks = [
        RunCheckpoints(str(run), settings.every_n_steps),
        StopAtNonFinite(),
        *settings.callbacks,
    ]
    trainer = make_trainer(
        run,
        callbacks,
        **({"logger": MetricsCSV(str(run / "metrics.csv")), "max_epochs": 2} | settings.trainer),
    )
    ckpt_path = last(run) if last(run).exists() else None
    with one_line_errors("train"), CallCounter(kill_at) as calls:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    (run / "calls").write_text(str(calls.number))


class CallCounter:
    """Counts every function call, and kills the process at one of them.

    Args:
        kill_at: Number of the call that kills the process; 0 only counts, None does not.
    """

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.number = 0

    def __enter__(self) -> "CallCounter":
        if self.kill_at is None:
            return self
        os.register_at_fork(after_in_child=partial(sys.setprofile, None))  # not a loader's worker
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        self.number += 1
        if self.number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def fit_killed_in_writing(run: Path, settings: Settings, place: str, checkpoint: int) -> None:
    """Train, and kill the process while it writes a checkpoint.

    Args:
        run: Directory of the run.
        settings: Settings of the run.
        place: ``half`` of the file is written, ``all`` of it, or it is about to be ``moved``.
        checkpoint: Number of the checkpoint, from 1 on.
    """
    written = 0

    def write_bytes(path: Path, content: bytes) -> int:
        nonlocal written
        written += 1
        with path.open("wb") as file:
            if (place, written) == ("half", checkpoint):
                file.write(content[: len(content) // 2])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(content)
        if (place, written) == ("all", checkpoint):
            os.kill(os.getpid(), signal.SIGKILL)
        return len(content)

    def fsync(file: int) -> None:
        if written == checkpoint:
            os.kill(os.getpid(), signal.SIGKILL)

    with patch.object(Path, "write_bytes", write_bytes), patch.object(os, "fsync", fsync):
        fit(run, settings)


class SendSignal(Callback):
    """Sends a signal to its own process.

    Args:
        number: Number of the signal.
        stage: ``train``, ``validation`` or ``test``.
        step: Optimizer steps that come before.
    """

    def __init__(self, number: int, stage: str, step: int) -> None:
        self.number, self.stage, self.step = number, stage, step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if (self.stage, self.step) == ("train", trainer.global_step):
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if (self.stage, self.step) == ("validation", trainer.global_step):
            os.kill(os.getpid(), self.number)

    def on_test_start(self, trainer: Trainer, *_: Any) -> None:
        if (self.stage, self.step) == ("test", trainer.global_step):
            os.kill(os.getpid(), self.number)


def start(function: Callable[..., Any], *arguments: Any, output: Path) -> BaseProcess:
    """Start a function in a process of its own; its output is appended to a file."""
    process = _FORKING.Process(target=_run, args=(function, arguments, output))
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Wait for a process, and return its exit status or minus the signal that ended it."""
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def run_alone(function: Callable[..., Any], *arguments: Any, output: Path) -> int:
    """Run a function in a process of its own, and return its exit status."""
    return finish(start(function, *arguments, output=output))


def _run(function: Callable[..., Any], arguments: tuple[Any, ...], output: Path) -> None:
    gc.freeze()  # to look through all that was imported would copy its memory
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    compose_once(pytest.MonkeyPatch())  # for the rest of this process
    multiprocessing.set_start_method("fork", force=True)  # of the loaders' workers, as elsewhere
    function(*arguments)


def contents(run: Path) -> dict[str, Any]:
    """All state that a run leaves behind: weights, optimizer, schedule, progress, best.

    Without the id of the run, which no two runs share.
    """
    found = {path.name: torch.load(path, weights_only=True) for path in sorted(run.glob("*.ckpt"))}
    return {name: checkpoint | {"run_id": None} for name, checkpoint in found.items()}


def curves(run: Path) -> list[str]:
    """Lines of the metrics that a run has logged, below the names of the columns."""
    path = run / "metrics.csv"
    return path.read_text().splitlines() if path.exists() else []


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Paths at which two nested values are not bit for bit the same."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        pairs = [(first[key], second[key], f"{where}/{key}") for key in first]
    elif isinstance(first, list | tuple) and len(first) == len(second):
        pairs = [(a, b, f"{where}/{i}") for i, (a, b) in enumerate(zip(first, second, strict=True))]
    elif isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [where]
    else:
        return [] if first == second else [where]
    return [place for a, b, at in pairs for place in differences(a, b, at)]
