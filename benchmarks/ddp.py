"""Throughput of each of two DDP processes against one process with the same threads.

Three phases in turn, in the same two processes: one of them works alone, both work without
communication, both train with DDP. What the second phase loses is due to the machine, whose memory
and caches are shared, and not to DDP.

python benchmarks/ddp.py [--quick]
"""

import os
import socket
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from timing import Report, Target, arguments, milliseconds, ratio
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.models import ConditionalUNet, Explainer, find_feature_maps
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Blur
from saliency_vae.topk import SoftTopK
from saliency_vae.training.module import VariationalSaliency

PHASES = ("alone", "both, without DDP", "both, DDP")


class Loss(nn.Module):
    """Mean loss of a batch of images."""

    def __init__(self, size: int) -> None:
        super().__init__()
        classifier = FrozenClassifier(DigitNet(), name="digits")
        maps = find_feature_maps(classifier, torch.rand(2, 3, size, size))
        encoder = ConditionalUNet([8, 24, 48, 64], features=maps)
        self.module = VariationalSaliency(
            Explainer(encoder, prior=partial(KroneckerNormal)),
            classifier,
            Objective(SoftTopK(), Blur(size / 6), beta=0.1),
            torch.optim.Adam,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Evaluate the loss of images (B, 3, size, size)."""
        return self.module.step(images).terms.loss.mean()


def work(rank: int, rendezvous: str, threads: int, sizes: tuple[int, ...], output: str) -> None:
    """Run the phases in turn in one of the two processes."""
    size, batch, steps, rounds = sizes
    torch.set_num_threads(threads)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback())
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    torch.manual_seed(0)
    loss = Loss(size)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-4)
    parallel = DistributedDataParallel(loss)
    images = torch.rand(batch, 3, size, size)

    def step(model: nn.Module) -> None:
        optimizer.zero_grad()
        model(images).backward()
        optimizer.step()

    step(loss)
    step(parallel)
    times: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for _ in range(rounds):
        for phase in PHASES:
            dist.barrier()
            if phase != "alone" or rank == 0:
                start = time.perf_counter()
                for _ in range(steps):
                    step(parallel if phase == "both, DDP" else loss)
                times[phase].append((time.perf_counter() - start) / steps)
    dist.destroy_process_group()
    if rank == 0:
        torch.save(times, output)


def loopback() -> str:
    """Name of the loopback network interface."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), names[0])


def main() -> None:
    """Measure, on the CPU."""
    options = arguments(__doc__)
    sizes = (32, 2, 1, 1) if options.quick else (48, 32, 20, 9)
    threads = 1
    with TemporaryDirectory() as directory:
        output = str(Path(directory) / "times.pt")
        arguments_: tuple[Any, ...] = (f"file://{directory}/rendezvous", threads, sizes, output)
        torch.multiprocessing.start_processes(
            work, arguments_, nprocs=2, start_method="fork" if options.quick else "spawn"
        )
        times = torch.load(output, weights_only=True)
    alone = times["alone"]
    report = Report("ddp", "Two DDP processes", torch.device("cpu"), options.quick)
    report.tables[
        f"Step of the cluttered_digits experiment, {sizes[1]} images of {sizes[0]}x{sizes[0]} "
        f"and {threads} thread each process"
    ] = [
        {
            "": phase,
            "ms": milliseconds(times[phase]),
            "work of each process, % of one alone": 100 * ratio(alone, times[phase]),
        }
        for phase in PHASES
    ]
    report.targets = [
        Target("DDP, % of one process alone", 100 * ratio(alone, times["both, DDP"]), at_least=90),
        Target(
            "DDP, % of two processes without it",
            100 * ratio(times["both, without DDP"], times["both, DDP"]),
            at_least=90,
        ),
    ]
    report.save(options.output)


if __name__ == "__main__":
    main()
