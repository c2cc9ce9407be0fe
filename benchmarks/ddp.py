"""Throughput of each of two DDP processes against one process with the same threads.

Lightning trains the universal explainer in three phases in turn, in the same two processes: one of
them works alone, both work without communication, both train with DDP. What the second phase loses
is due to the machine, whose memory and caches are shared, and not to DDP.

python benchmarks/ddp.py [--quick]
"""

import os
import socket
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from timing import Report, Target, arguments, milliseconds, ratio
from torch.utils.data import DataLoader
from training_step import Pictures, fit

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.models import Explainer
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Blur
from saliency_vae.topk import SoftTopK
from saliency_vae.training.module import VariationalSaliency

ALONE, BOTH, DDP = "alone", "both, without DDP", "both, DDP"
CPU = torch.device("cpu")
THREADS = 1  # of each process


@dataclass(frozen=True)
class Size:
    """Size of the measurement: images of a step, steps of a phase after its warm-up, rounds."""

    pixels: int = 48
    batch: int = 32
    warm_up: int = 3
    steps: int = 20
    rounds: int = 9


@dataclass
class Clock(Callback):
    """Callback that measures the mean seconds of a step after the warm-up."""

    warm_up: int
    ends: list[float] = field(default_factory=list)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())

    @property
    def step(self) -> float:
        """Mean seconds of a step after the warm-up."""
        ends = self.ends[self.warm_up - 1 :]
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def train(size: Size, **settings: Any) -> float:
    """Train in this process by settings of Lightning's Trainer; return the seconds of a step."""
    torch.manual_seed(0)
    module = VariationalSaliency(
        Explainer(UniversalUNet(copies=1), prior=partial(KroneckerNormal, correlation=0.95)),
        FrozenClassifier(DigitNet(), name="digits"),
        Objective(SoftTopK((0.1, 0.9)), Blur(size.pixels / 6), beta=0.05),
        partial(torch.optim.Adam, lr=2e-3),
    )
    clock = Clock(size.warm_up)
    pictures = Pictures((size.warm_up + size.steps) * size.batch, size.pixels)
    # As many steps in each process, however many share the images.
    pictures.number *= settings.get("devices", 1)
    batches = DataLoader(pictures, batch_size=size.batch)
    fit(module, batches, [clock], CPU, log_every_n_steps=1_000_000, **settings)
    return clock.step


def work(rank: int, port: int, size: Size, output: str) -> None:
    """Run the phases in turn in one of the two processes."""
    torch.set_num_threads(THREADS)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback())
    # Lightning starts no processes of its own where it finds these.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": "2", "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    train(size, devices=2, strategy="ddp")  # connects the processes
    times: dict[str, list[float]] = {ALONE: [], BOTH: [], DDP: []}
    for _ in range(size.rounds):
        for phase, found in times.items():
            dist.barrier()
            if phase == DDP:
                found.append(train(size, devices=2, strategy="ddp"))
            elif phase == BOTH or rank == 0:
                found.append(train(size))
    dist.barrier()
    if rank == 0:
        torch.save(times, output)


def loopback() -> str:
    """Name of the loopback network interface."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), names[0])


def free_port() -> int:
    """Port at which the processes can meet."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    """Measure, on the CPU."""
    options = arguments(__doc__)
    size = Size(pixels=32, batch=2, warm_up=1, steps=1, rounds=1) if options.quick else Size()
    with TemporaryDirectory() as directory:
        output = str(Path(directory) / "times.pt")
        torch.multiprocessing.start_processes(
            work,
            (free_port(), size, output),
            nprocs=2,
            start_method="fork" if options.quick else "spawn",
        )
        times = torch.load(output, weights_only=True)
    alone = times[ALONE]
    report = Report("ddp", "Two DDP processes", CPU, options.quick)
    report.tables[
        f"Lightning's training step of the universal explainer, {size.batch} images of "
        f"{size.pixels}x{size.pixels} and {THREADS} thread each process"
    ] = [
        {
            "": phase,
            "ms": milliseconds(times[phase]),
            "work of each process, % of one alone": 100 * ratio(alone, times[phase]),
        }
        for phase in (ALONE, BOTH, DDP)
    ]
    report.targets = [
        Target("DDP, % of one process alone", 100 * ratio(alone, times[DDP]), at_least=90),
        Target(
            "DDP, % of two processes without it", 100 * ratio(times[BOTH], times[DDP]), at_least=90
        ),
    ]
    report.save(options.output)


if __name__ == "__main__":
    main()
