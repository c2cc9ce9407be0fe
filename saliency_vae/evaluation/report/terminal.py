"""The results of an evaluation on a terminal: the ranking, 100 columns wide, and the verdicts."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import short, three_digits

# Metrics that there is room for; metrics.csv and the report have them all.
_SHOWN = (
    "insertion",
    "deletion",
    "agreement_5",
    "agreement_10",
    "agreement_20",
    "pointing_game",
    "iou",
    "relevance_mass",
    "relevance_rank",
    "own_mask",
)


def print_results(results: Results, report: Path) -> None:
    """Print the ranking, the verdicts, what was left out, and where the report is.

    Args:
        results: Results of an evaluation.
        report: HTML file of the report.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    console.print(ranking_table(results.scores))
    for line in (*result_lines(results), str(report)):
        print(line)  # noqa: T201  # what the command prints


def ranking_table(scores: Scores) -> Table:
    """Lay out the means, highest insertion AUC first, the best of each column in green."""
    metrics = [metric for metric in _SHOWN if metric in scores.values]
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("method", no_wrap=True)
    for metric in metrics:
        info = metric_info(metric)
        table.add_column(f"{info.short}{info.arrow}", justify="right", no_wrap=True)
    table.add_column("ms↓", justify="right", no_wrap=True)
    for method in scores.ranking():
        cells = [_cell(scores, metric, method) for metric in metrics]
        style = "bold" if scores.roles[method] is Role.EXPLAINER else ""
        table.add_row(method, *cells, three_digits(1000 * scores.seconds[method]), style=style)
    return table


def result_lines(results: Results) -> list[str]:
    """Write the verdicts and what was left out, one a line."""
    return [
        *(verdict.text for verdict in results.comparison.verdicts),
        *(verdict.text for verdict in results.uncertainty.verdicts),
        *(f"Left out: {line}" for line in results.left_out),
    ]


def _cell(scores: Scores, metric: str, method: str) -> str:
    number = short(scores.mean(metric, method))
    return f"[green]{number}[/]" if method in scores.best(metric) else number
