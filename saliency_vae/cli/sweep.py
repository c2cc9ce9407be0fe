"""Hydra sweeps: each job in a process of its own, and one table at the end."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from saliency_vae.cli.sweep_figure import draw_sweep

# Metrics in the table with their headings: short, so that settings fit beside them on 80 columns.
_COMPARED = {
    "val/loss": "loss",
    "val/agreement_5": "agree\n5 %",
    "val/agreement_10": "agree\n10 %",
    "val/agreement_20": "agree\n20 %",
    "val/reconstruction": "recon.",
    "val/kl": "KL",
}


def run_job(module: str, failed: list[int]) -> float:
    """Run the current job of a sweep as a single run, and return its validation loss.

    In one process, Lightning would start the whole sweep again on each device. As single runs, the
    jobs can use any number of devices and cannot disturb each other.

    Args:
        module: Module to run with ``python -m``.
        failed: Numbers of the jobs that failed, to which this one is added if it does.

    Returns:
        Lowest validation loss; NaN if the job failed.
    """
    hydra = HydraConfig.get()
    directory = hydra.runtime.output_dir
    command = [sys.executable, "-m", module, *hydra.overrides.task]
    command += [o for o in hydra.overrides.hydra if o.startswith("hydra.searchpath=")]
    command.append(f'hydra.run.dir="{directory}"')
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            command += ["--config-dir", source.path]
    if subprocess.run(command, check=False).returncode != 0:
        failed.append(hydra.job.num)
        return math.nan
    return float(read_metrics(Path(directory)).get("val/loss", math.nan))


def read_metrics(run: Path) -> dict[str, float]:
    """Metrics of the best explainer of a run; none if it did not finish."""
    try:
        metrics: dict[str, float] = json.loads((run / "explainer/config.json").read_text())[
            "metrics"
        ]
    except (OSError, ValueError, KeyError):
        return {}
    return metrics


class SweepTable(Callback):
    """Writes ``sweep.csv`` and ``sweep.png`` into the sweep's directory, and shows the table."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare the jobs.

        Raises:
            SystemExit: With status 1, if a job failed.
        """
        directory = Path(config.hydra.sweep.dir)
        rows = [self._row(job) for job in self._jobs(directory)]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with (directory / "sweep.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        draw_sweep(rows, _COMPARED, directory / "sweep.png")
        Console().print(_table(rows, columns, title=str(directory / "sweep.csv")))
        failed = [row["job"] for row in rows if row["status"] == "failed"]
        if failed:
            raise SystemExit(f"error: {len(failed)} of {len(rows)} jobs failed: {failed}")

    @staticmethod
    def _jobs(directory: Path) -> list[Path]:
        jobs = [path.parent.parent for path in directory.glob("*/.hydra/overrides.yaml")]
        return sorted(jobs, key=lambda job: (len(job.name), job.name))

    @staticmethod
    def _row(job: Path) -> dict[str, Any]:
        overrides = OmegaConf.load(job / ".hydra/overrides.yaml")
        # An override that removes something, such as ~scheduler, has no value.
        pairs = (str(override).lstrip("+").partition("=") for override in overrides)
        settings = {name: value for name, _, value in pairs}
        metrics = read_metrics(job)
        status = "done" if metrics else "failed"
        values = {name: metrics.get(name, math.nan) for name in _COMPARED}
        return {"job": job.name, **settings, "status": status, **values}


def _table(rows: list[dict[str, Any]], columns: list[str], title: str) -> Table:
    """Lay out the jobs without truncation; settings that all share are only in the CSV file."""
    own = ("job", "status", *_COMPARED)
    shown = [c for c in columns if c in own or len({_text(row.get(c, "")) for row in rows}) > 1]
    table = Table(title=escape(title), box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for column in shown:
        table.add_column(_COMPARED.get(column, column), overflow="fold", no_wrap=column in own)
    for row in rows:
        table.add_row(*(_text(row.get(column, "")) for column in shown))
    return table


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))
