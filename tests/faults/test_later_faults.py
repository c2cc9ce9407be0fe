"""Trainings that fail after some steps, for their memory or a loader's: what is done is kept."""

import os
import re
import signal
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from tests.commands.test_train import tiny
from tests.faults.command_run import run_train
from tests.faults.small_run import curves, run_alone


class Fault(Callback):
    """Fails before a step.

    Args:
        kind: ``accelerator``, whose memory is full, or ``loader``, whose process is killed.
        step: Optimizer steps that come before.
    """

    def __init__(self, kind: str, step: int) -> None:
        self.kind, self.step = kind, step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step < self.step:
            return
        if self.kind == "accelerator":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore.")
        for process in active_children():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()


@pytest.mark.parametrize(
    ("kind", "workers", "found"),
    [
        ("accelerator", 0, "it full: CUDA out of memory."),
        ("loader", 1, "a process killed, perhaps for its memory: DataLoader worker (pid"),
    ],
)
def test_memory_that_is_full_at_a_later_step(
    kind: str, workers: int, found: str, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    settings = [*tiny(tmp_path), "logger=csv"]
    settings += ["callbacks.panels=null", "trainer.max_epochs=2", "checkpoint_every_n_steps=2"]
    settings += [f"data.num_workers={workers}", f"hydra.run.dir={run}"]
    fault = f"+callbacks.fault={{_target_: {__name__}.Fault, kind: {kind}, step: 6}}"
    assert run_alone(run_train, tmp_path, *settings, fault, output=log) == 1
    said = log.read_text()
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: Expected trainer.accumulate_grad_batches=2 (half of the images")
    assert f", to fit into memory. Found {found}" in line
    assert re.search(
        rf"\. Last checkpoint: {run}/checkpoints/last.ckpt \(step [67]\)\. To go", line
    )
    assert line.endswith(f"python -m saliency_vae.train ckpt_path=last hydra.run.dir={run}")
    resume = ["ckpt_path=last", f"hydra.run.dir={run}", "+callbacks.fault=null"]
    halved = ["trainer.accumulate_grad_batches=2"] if kind == "accelerator" else []
    assert run_alone(run_train, tmp_path, *resume, *halved, output=log) == 0, log.read_text()
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert (last["global_step"], last["epoch"]) == (8, 1)
    batches = last["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
    assert batches == (16 if halved else 8)  # each image once an epoch
    assert [row.split(",")[0] for row in curves(run)[1:-1]] == ["1", "3", "5", "7"]
    assert (run / "explainer/model.safetensors").is_file()
