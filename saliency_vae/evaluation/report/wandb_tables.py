"""The results of an evaluation at W&B: numbers as panels, report and tables, the figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure

from saliency_vae.evaluation.metric_info import metric_info, three_digits
from saliency_vae.evaluation.report.page import ranking_rows, uncertainty_rows
from saliency_vae.evaluation.results import Results


def log_results(
    logger: WandbLogger, results: Results, figures: Mapping[str, Figure], report: Path
) -> None:
    """Log once, and end the run: what W&B says then does not follow what the command says.

    Args:
        logger: Of the run.
        results: What was found.
        figures: By name.
        report: HTML file.
    """
    table = wandb.Table(columns=["method", "metric", "mean", "low", "high"])
    means: dict[str, float] = {}
    for metric, by_method in results.intervals.items():
        for method, interval in by_method.items():
            table.add_data(method, metric, *(float(value) for value in interval))
            means[f"{metric}/{method}"] = float(interval.mean)
    seconds = {f"seconds/{method}": value for method, value in results.seconds.items()}
    pictures = {f"figures/{name}": wandb.Image(figure) for name, figure in figures.items()}
    tables = {
        "evaluation": table,
        "ranking": _ranking(results),
        "uncertainty": _uncertainty(results),
        "findings": _findings(results),
    }
    page = {"report": wandb.Html(report, inject=False)}
    logger.log_hyperparams(results.about)
    logger.experiment.log({**tables, **means, **seconds, **pictures, **page})
    logger.experiment.finish()


def _ranking(results: Results) -> wandb.Table:
    """One row a method, best insertion first."""
    titles = [metric_info(metric).title for metric in results.values]
    table = wandb.Table(columns=["method", *titles, "ms"])
    for row in ranking_rows(results):
        milliseconds, _ = row["costs"]
        table.add_data(row["name"], *map(_text, row["cells"].values()), three_digits(milliseconds))
    return table


def _uncertainty(results: Results) -> wandb.Table:
    """One row an uncertainty or control; empty where a metric is not for it."""
    titles = [metric_info(metric).title for metric in results.uncertainty]
    table = wandb.Table(columns=["uncertainty", *titles])
    for row in uncertainty_rows(results):
        table.add_data(row["name"], *map(_text, row["cells"]))
    return table


def _findings(results: Results) -> wandb.Table:
    table = wandb.Table(columns=["verdict", "finding"])
    for finding in (*results.findings, *results.uncertainty_findings):
        table.add_data(finding.verdict, finding.text)
    return table


def _text(cell: Mapping[str, Any] | None) -> str:
    return "" if cell is None else f"{cell['mean']} {cell['interval']}"
