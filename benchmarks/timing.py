"""Timing on a noisy machine, and reports: the code that all benchmarks share.

Functions to compare are timed in turn, round by round. A ratio is the median of the ratios within
each round, so that a temporary slowdown of the machine affects both functions alike.
"""

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from saliency_vae.metrics import peak_memory
from saliency_vae.runtime.device import pick_device

RESULTS = Path(__file__).parent / "results"
_SHORTEST = 0.02  # seconds, at least, of one measurement; short functions are called several times

Seconds = list[float]  # seconds of a call, one value for each round


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make the parser of the options that every benchmark has."""
    options = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    options.add_argument("--quick", action="store_true", help="small sizes, to check that it runs")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    options.add_argument("--output", type=Path, default=RESULTS, help="directory of the JSON")
    return options


def arguments(description: str | None) -> argparse.Namespace:
    """Read the command line of a benchmark without further options."""
    parsed = parser(description).parse_args()
    parsed.device = pick_device(parsed.device)
    return parsed


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def seconds(function: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Seconds of a call, including the device's work."""
    elapsed = stopwatch(device)
    for _ in range(calls):
        function()
    return elapsed() / calls


def stopwatch(device: torch.device) -> Callable[[], float]:
    """Start a clock, and return a function that reads it, in seconds."""
    synchronize(device)
    start = time.perf_counter()

    def read() -> float:
        synchronize(device)
        return time.perf_counter() - start

    return read


def interleaved(
    functions: Mapping[str, Callable[[], object]], device: torch.device, *, rounds: int
) -> dict[str, Seconds]:
    """Time functions in turn, after an uncounted warm-up of each."""
    calls = {}
    for name, function in functions.items():
        function()
        calls[name] = max(1, math.ceil(_SHORTEST / max(seconds(function, device), 1e-6)))
    times: dict[str, Seconds] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(seconds(function, device, calls[name]))
    return times


def milliseconds(times: Seconds) -> float:
    """Median milliseconds of a call."""
    return 1000 * statistics.median(times)


def ratio(times: Seconds, floor: Seconds) -> float:
    """Median over the rounds of the ratio of ``times`` to ``floor``."""
    return statistics.median(a / b for a, b in zip(times, floor, strict=True))


def peak_mib(function: Callable[[], object], device: torch.device) -> float:
    """Peak MiB of the tensors that a call makes."""
    if device.type != "cuda":
        return peak_memory(function) / 2**20
    function()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


@dataclass(frozen=True)
class Target:
    """Goal for a measured value.

    Attributes:
        what: Name of the value.
        measured: Measured value.
        at_least: Lower limit, or None.
        at_most: Upper limit, or None.
    """

    what: str
    measured: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def goal(self) -> str:
        """Limit as text."""
        return f"<= {self.at_most:g}" if self.at_least is None else f">= {self.at_least:g}"

    @property
    def met(self) -> bool:
        """Whether the measured value is within its limits."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= self.measured <= high


@dataclass
class Report:
    """Tables and targets of one subject.

    Attributes:
        subject: Name of the JSON file.
        title: Heading of the section.
        device: Device that is measured.
        quick: Whether sizes are small.
        tables: Rows of each table by its heading; a row maps columns to values.
        targets: Goals of the subject.
        load: Load average of the machine over the minute before the benchmark, in processes.
    """

    subject: str
    title: str
    device: torch.device
    quick: bool
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def save(self, directory: Path) -> None:
        """Print tables and targets, and write ``<subject>.json``."""
        print(markdown(self.title, self.tables, [asdict(t) for t in self.targets]))
        content = {
            "subject": self.subject,
            "title": self.title,
            "quick": self.quick,
            "machine": machine(self.device) | {"load": self.load},
            "tables": self.tables,
            "targets": [asdict(t) | {"met": t.met} for t in self.targets],
        }
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.subject}.json"
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"\n{path}")


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine that is measured."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16; a CPU that only emulates it takes minutes a step."""
    return device.type == "cuda" or "bf16" in _cpu()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{names[0] if names else platform.machine()} ({', '.join(known)})"


def markdown(
    title: str, tables: Mapping[str, Sequence[Mapping[str, Any]]], targets: Sequence[Mapping]
) -> str:
    """Lay out a subject: its tables, then its targets."""
    lines = [f"## {title}"]
    for heading, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        body = [[_cell(row.get(column)) for column in columns] for row in rows]
        lines += ["", heading, "", *_grid(columns, body)]
    if targets:
        body = [
            [t.what, t.goal, _cell(t.measured), "yes" if t.met else "**no**"]
            for t in (
                Target(**{key: value for key, value in target.items() if key != "met"})
                for target in targets
            )
        ]
        lines += ["", *_grid(["target", "goal", "measured", "met"], body)]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _grid(columns: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
