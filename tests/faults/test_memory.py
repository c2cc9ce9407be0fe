"""Memory that does not grow, and memory that is too small."""

import gc
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from saliency_vae.cli.errors import one_line_errors
from saliency_vae.runtime.loggers import MetricsCSV
from saliency_vae.runtime.memory import LESS, is_out_of_memory
from saliency_vae.training.checkpoints import RunCheckpoints
from saliency_vae.training.finite_check import StopAtNonFinite
from tests.conftest import BlobsData, MakeModule, make_trainer
from tests.faults.small_run import Settings, fit, run_alone


class LiveTensors(Callback):
    """Counts the tensors that are alive at the end of the second and the fifth epoch."""

    def __init__(self) -> None:
        self.number: list[int] = []

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch not in (1, 4):
            return
        gc.collect()
        self.number.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))


class Hoard(Callback):
    """Keeps a tensor of each batch."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.kept.append(outputs["loss"])


@pytest.mark.parametrize("hoard", [False, True])
def test_no_tensor_is_kept_from_step_to_step(
    hoard: bool, make_module: MakeModule, tmp_path: Path
) -> None:
    live = LiveTensors()
    callbacks = [RunCheckpoints(str(tmp_path), 3), StopAtNonFinite(), live]
    callbacks += [Hoard()] if hoard else []
    logger = MetricsCSV(str(tmp_path / "metrics.csv"))
    trainer = make_trainer(tmp_path, callbacks, max_epochs=5, logger=logger)
    trainer.fit(make_module(), datamodule=BlobsData())
    growth = live.number[1] - live.number[0]  # in 12 steps
    assert growth >= 12 if hoard else growth == 0


def fit_in_little_memory(run: Path, settings: Settings) -> None:
    """Train, with 100 MB more than are in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 100 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    fit(run, settings)


def test_too_little_memory_names_the_setting_to_change(tmp_path: Path) -> None:
    log = tmp_path / "log"
    status = run_alone(fit_in_little_memory, tmp_path, Settings(channels=50_000), output=log)
    assert status == 1
    said = log.read_text()
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "memory" in line
    assert "trainer.accumulate_grad_batches=2" in line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nMore"), True),
        (RuntimeError("[...] DefaultCPUAllocator: can't allocate memory: you tried ..."), True),
        (MemoryError(), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_which_errors_are_meant(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_each_command_names_its_own_setting() -> None:
    def said(command: str) -> str:
        with pytest.raises(SystemExit) as ended, one_line_errors(command):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nMore")
        return str(ended.value)

    assert "encoder=unet, to fit" in said("train")
    assert "accumulate_grad_batches" in said("train")
    assert said("export").startswith(f"error: Expected {LESS['export']}, to fit")
    assert said("explain").startswith("error: Expected a smaller batch_size, to fit")
    assert "20 GiB" in said("evaluate")
    assert "\n" not in said("evaluate")


_COUNT_FAULTS = """
import resource, sys
import numpy
from saliency_vae.runtime.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def use():
    numpy.ones(5_000_000)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", _COUNT_FAULTS, how], text=True))
        for how in ("kept", "given back")
    }
    assert faults["given back"] > 100
    assert faults["kept"] < faults["given back"] / 10
