"""Images a second of the paper's training on a GPU: many steps, with no wait between them.

Batches are on the device already, so that the step alone is measured, with what a run logs every 50
steps. The seconds of the first step include compilation.

python benchmarks/training_rate.py [--quick] [--profile] [--seconds 300]
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from timing import Report, Target, parser, synchronize
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset
from training_step import LOG_EVERY, batch_and_size, fit, papers_module

from saliency_vae.data import Batch
from saliency_vae.runtime.device import pick_device

GOALS = {"H200": 3100, "H100": 2200}  # images a second in bfloat16, by card
MOONSHOT = 4400
KERNELS = 15  # listed in a profile
PROFILED = 3  # steps


@dataclass(frozen=True)
class Case:
    """How the step is executed.

    Attributes:
        compiled: Whether encoder and classifier are compiled.
        tuned: Whether cuDNN tries its algorithms and keeps the fastest (``trainer.benchmark``).
        precision: Precision of Lightning's Trainer.
    """

    compiled: bool = False
    tuned: bool = False
    precision: Any = "bf16-mixed"

    def __str__(self) -> str:
        """Name of the case in the tables."""
        words = [self.precision, "compiled" if self.compiled else "eager"]
        return ", ".join([*words, *(["cuDNN tuned"] if self.tuned else [])])


CASES = (Case(), Case(tuned=True), Case(compiled=True), Case(compiled=True, tuned=True))


class OneBatch(Dataset[Batch]):
    """The same batch of random images at each step, on the device."""

    def __init__(self, steps: int, batch: int, size: int, device: torch.device) -> None:
        self.steps, self.images = steps, torch.rand(batch, 3, size, size, device=device)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Batch:
        return {"image": self.images}


class Clock(Callback):
    """Times the first step alone, and the steps after the warm-up as a whole."""

    def __init__(self, device: torch.device, warm_up: int) -> None:
        self.device, self.warm_up = device, warm_up
        self.times: list[float] = []

    def _note(self) -> None:
        synchronize(self.device)
        self.times.append(time.perf_counter())

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the first step."""
        self._note()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the clock after step 1, after the warm-up, and after as many steps again."""
        if batch_idx in (0, self.warm_up - 1):
            self._note()
        if batch_idx == 2 * self.warm_up - 1:
            self._note()

    @property
    def first(self) -> float:
        """Seconds of the first step."""
        return self.times[1] - self.times[0]

    @property
    def each(self) -> float:
        """Mean seconds of a step after the warm-up."""
        return (self.times[-1] - self.times[-2]) / self.warm_up


class Kernels(Callback):
    """Profiles the last steps."""

    def __init__(self, device: torch.device, first: int) -> None:
        self.first, self.rows = first, list[dict[str, Any]]()
        self.on_gpu = device.type == "cuda"
        activity = ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU
        self.profile = profile(activities=[activity], acc_events=True)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the profile."""
        if batch_idx == self.first:
            self.profile.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the profile, and keep the kernels that take longest."""
        self.profile.stop()
        events = self.profile.key_averages()
        times = {
            event.key: (event.self_device_time_total if self.on_gpu else event.self_cpu_time_total)
            for event in events
        }
        calls = {event.key: event.count for event in events}
        whole = sum(times.values()) or 1
        for name in sorted(times, key=lambda name: -times[name])[:KERNELS]:
            self.rows.append(
                {
                    "kernel": name[:90].replace("|", " "),
                    "ms a step": times[name] / 1000 / PROFILED,
                    "% of all": 100 * times[name] / whole,
                    "calls a step": str(calls[name] // PROFILED),
                }
            )


@dataclass(frozen=True)
class Measured:
    """Results of a case: its row, and a row for each of the longest kernels."""

    row: dict[str, Any]
    kernels: list[dict[str, Any]]


def measure(case: Case, device: torch.device, *, quick: bool, profiling: bool) -> Measured:
    """Train with the settings of one case, and measure the steps."""
    batch, size = batch_and_size(device, quick=quick)
    on_gpu = device.type == "cuda"
    warm_up = LOG_EVERY if on_gpu else 2  # steps after which everything has run once
    clock, kernels = Clock(device, warm_up), Kernels(device, 2 * warm_up)
    steps = 2 * warm_up + (PROFILED if profiling else 0)
    torch.compiler.reset()  # each case compiles for itself
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    fit(
        papers_module(quick=quick, size=size, compiled=case.compiled),
        DataLoader(OneBatch(steps, batch, size, device), batch_size=None),
        [clock, *([kernels] if profiling else [])],
        device,
        precision=case.precision,
        benchmark=case.tuned,
        log_every_n_steps=LOG_EVERY,
    )
    row = {
        "": str(case),
        "images/s": batch / clock.each,
        "ms a step": 1000 * clock.each,
        "peak GiB": torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None,
        "first step, s": clock.first,
    }
    return Measured(row, kernels.rows)


def main() -> None:
    """Measure case by case; after each one, the report is written."""
    begun = time.monotonic()
    options = parser(__doc__)
    options.add_argument("--profile", action="store_true", help="list the longest kernels too")
    options.add_argument("--seconds", type=float, default=300, help="after which no case is begun")
    given = options.parse_args()
    device, quick = pick_device(given.device), given.quick
    batch, size = batch_and_size(device, quick=quick)
    report = Report("training_rate", "Training rate, the paper's recipe", device, quick)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    goal = next((rate for name, rate in GOALS.items() if name in card), None)
    rows = report.tables[f"batch {batch}, {size}x{size}, channels last"] = []
    for case in CASES[:1] if quick else CASES:
        if rows and time.monotonic() - begun > given.seconds:
            break
        profiling = given.profile and not case.tuned
        measured = measure(case, device, quick=quick, profiling=profiling)
        rows.append(measured.row)
        if profiling:
            report.tables[f"{case}: kernels"] = measured.kernels
        if goal is not None:
            rate = measured.row["images/s"]
            what = f"{case}, images/s (moonshot: {MOONSHOT:,})"
            report.targets.append(Target(what, rate, at_least=goal))
        report.save(given.output)


if __name__ == "__main__":
    main()
