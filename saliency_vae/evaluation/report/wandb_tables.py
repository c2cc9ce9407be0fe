"""The results of an evaluation at W&B: numbers as panels, tables, figures and the report."""

from collections.abc import Mapping
from pathlib import Path

import wandb
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure

from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.report.rows import Cell, ranking_rows, uncertainty_rows
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.evaluation.wording import three_digits, title


def log_results(
    logger: WandbLogger, results: Results, figures: Mapping[str, Figure], report: Path
) -> None:
    """Log once and end the run, so that W&B's output comes before that of the command.

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
    costs = {
        f"{cost}/{method}": value
        for cost, by_method in (("passes", scores.passes), ("seconds", scores.seconds))
        for method, value in by_method.items()
    }
    pictures = {f"figures/{name}": wandb.Image(figure) for name, figure in figures.items()}
    tables = {
        "evaluation": table,
        "ranking": _ranking(scores),
        "uncertainty": _uncertainty(results.uncertainty),
        "verdicts": _verdicts(results),
        "rank_reversals": _reversals(results),
    }
    page = {"report": wandb.Html(report, inject=False)}
    logger.log_hyperparams(dict(results.run_metadata))
    logger.experiment.log({**tables, **means, **costs, **pictures, **page})
    logger.experiment.finish()


def _ranking(scores: Scores) -> wandb.Table:
    """One row for each method, highest insertion AUC first; empty where it has no score."""
    titles = [metric_info(metric).title for metric in scores.values]
    table = wandb.Table(columns=["method", *titles, "passes", "ms"])
    for row in ranking_rows(scores):
        cells = [_text(row.cells.get(metric)) for metric in scores.values]
        costs = [three_digits(row.costs[c]) if c in row.costs else "" for c in ("passes", "ms")]
        table.add_data(row.name, *cells, *costs)
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


def _reversals(results: Results) -> wandb.Table:
    """One row for each pair of methods whose order depends on the baseline image."""
    better = ("first is better over", "second is better over")
    table = wandb.Table(columns=["first", "second", *better, "text"])
    for reversal in results.rank_reversals.reversals:
        table.add_data(*map(title, reversal.methods), *reversal.baselines, str(reversal))
    return table


def _text(cell: Cell | None) -> str:
    return "" if cell is None else str(cell)
