"""The training command on two devices: two processes on the CPU, the second forked by the first."""

import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch import Callback, Trainer

from saliency_vae.training import processes
from tests.faults.command_run import run_train


class Forked:
    """A forked process, with the methods of Popen that a run uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def poll(self) -> int | None:
        if self.status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if ended else None
        return self.status

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def run_on_two(directory: Path, port: int, *arguments: str) -> None:
    """Run the command as Lightning starts it on two devices, but for the time of importing.

    The process of each device writes its id to ``pid_0`` or ``pid_1``.
    """
    parent = os.getpid()
    child = os.fork()
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0" if child else "1",
    }
    if not child:
        os.environ["SALIENCY_VAE_STARTED_BY"] = str(parent)
    (directory / f"pid_{os.environ['LOCAL_RANK']}").write_text(str(os.getpid()))
    started = [Forked(child)] if child else []
    with patch.object(processes, "_children", lambda trainer: started):
        try:
            run_train(directory, "trainer.devices=2", *arguments)
        except SystemExit as ended:
            if not child:
                _leave(ended.code)
            raise
    if not child:
        os._exit(0)


def _leave(code: Any) -> None:
    """End the forked process as Python ends."""
    if isinstance(code, str):
        os.write(2, f"{code}\n".encode())
    os._exit(code if isinstance(code, int) else 1)


class BreakLoss(Callback):
    """Makes a loss of one device infinite at a step.

    Args:
        device: Device whose loss breaks.
        step: Optimizer steps that come before.
    """

    def __init__(self, device: int, step: int) -> None:
        self.device, self.step = device, step

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        if (trainer.global_rank, trainer.global_step) == (self.device, self.step):
            outputs["losses"][1] = torch.inf


class Wait(Callback):
    """Waits at a step: one device, so that the other one waits for it, or all.

    Args:
        devices: Devices that wait.
        step: Optimizer steps that come before.
    """

    def __init__(self, devices: list[int], step: int) -> None:
        self.devices, self.step = devices, step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_rank in self.devices and trainer.global_step == self.step:
            Path(f"waits_{trainer.global_rank}").touch()
            while True:  # as in a communication that notices nothing
                signal.pause()
