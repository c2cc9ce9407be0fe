"""The results of an evaluation at W&B: numbers as panels, tables, figures and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure

from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.report.page import ranking_rows, uncertainty_rows
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.evaluation.wording import three_digits


def log_results(
    logger: WandbLogger, results: Results, figures: Mapping[str, Figure], report: Path
) -> None:
    """Log once and end the run, so that W&B's last lines come before those of the command.

    Args:
        logger: Logger of the run.
        results: Results of an evaluation.
        figures: Figures by name.
        report: HTML file of the report.
    """
    scores = results.scores
    table = wandb.Table(columns=["method", "metric", "mean", "low", "high"])
    means: dict[str, float] = {}
    for metric, by_method in scores.intervals.items():
        for method, interval in by_method.items():
            table.add_data(method, metric, *(float(value) for value in interval))
            means[f"{metric}/{method}"] = float(interval.mean)
    seconds = {f"seconds/{method}": value for method, value in scores.seconds.items()}
    pictures = {f"figures/{name}": wandb.Image(figure) for name, figure in figures.items()}
    tables = {
        "evaluation": table,
        "ranking": _ranking(scores),
        "uncertainty": _uncertainty(results.uncertainty),
        "verdicts": _verdicts(results),
    }
    page = {"report": wandb.Html(report, inject=False)}
    logger.log_hyperparams(dict(results.run_metadata))
    logger.experiment.log({**tables, **means, **seconds, **pictures, **page})
    logger.experiment.finish()


def _ranking(scores: Scores) -> wandb.Table:
    """One row for each method, highest insertion AUC first."""
    titles = [metric_info(metric).title for metric in scores.values]
    table = wandb.Table(columns=["method", *titles, "ms"])
    for row in ranking_rows(scores):
        milliseconds, _ = row["costs"]
        table.add_data(row["name"], *map(_text, row["cells"].values()), three_digits(milliseconds))
    return table


def _uncertainty(report: UncertaintyReport) -> wandb.Table:
    """One row for each uncertainty or control; empty where a metric does not apply to it."""
    titles = [metric_info(metric).title for metric in report.intervals]
    table = wandb.Table(columns=["uncertainty", *titles])
    for row in uncertainty_rows(report):
        table.add_data(row["name"], *map(_text, row["cells"]))
    return table


def _verdicts(results: Results) -> wandb.Table:
    table = wandb.Table(columns=["judgement", "text"])
    for verdict in (*results.comparison.verdicts, *results.uncertainty.verdicts):
        table.add_data(verdict.judgement, verdict.text)
    return table


def _text(cell: Mapping[str, Any] | None) -> str:
    return "" if cell is None else f"{cell['mean']} {cell['interval']}"
