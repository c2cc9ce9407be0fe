"""The results of an evaluation on a terminal: the ranking, 100 columns wide, and the verdicts."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from saliency_vae.evaluation.main_metrics import main_metrics
from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import short, three_digits

_MORE = ("own_mask", "relevance_mass", "relevance_rank")  # shown where there is room
_COLUMNS = 10  # of metrics
_REVERSALS = 3  # printed; the report has more


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
    """Lay out the means, highest insertion AUC first, the best of each column in green.

    A star marks methods that were scored on fewer images than others. Further metrics are in
    ``metrics.csv`` and the report.
    """
    metrics = [*main_metrics(scores), *(m for m in _MORE if m in scores.values)][:_COLUMNS]
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, caption_justify="left")
    table.add_column("method", no_wrap=True)
    for metric in metrics:
        info = metric_info(metric)
        table.add_column(f"{info.short}{info.arrow}", justify="right", no_wrap=True)
    if scores.passes:
        table.add_column("passes↓", justify="right", no_wrap=True)
    table.add_column("ms↓", justify="right", no_wrap=True)
    for method in scores.ranking():
        cells = [_cell(scores, metric, method) for metric in metrics]
        if scores.passes:
            cells.append(three_digits(scores.passes[method]) if method in scores.passes else "")
        style = "bold" if scores.roles[method] is Role.EXPLAINER else ""
        name = method if scores.is_complete("insertion", method) else f"{method}*"
        table.add_row(name, *cells, three_digits(1000 * scores.seconds[method]), style=style)
    if any(not scores.is_complete("insertion", method) for method in scores.methods):
        table.caption = "* scored on fewer images"
    return table


def result_lines(results: Results) -> list[str]:
    """Write the verdicts, the clearest rank reversals and what was left out, one a line."""
    reversals = results.rank_reversals.reversals
    more = len(reversals) - _REVERSALS
    return [
        *(verdict.text for verdict in results.comparison.verdicts),
        *(verdict.text for verdict in results.uncertainty.verdicts),
        *(f"Rank reversal, {reversal}" for reversal in reversals[:_REVERSALS]),
        *([f"Rank reversals: {more} more pairs of methods, see the report."] if more > 0 else []),
        *(f"Left out: {line}" for line in results.left_out),
    ]


def _cell(scores: Scores, metric: str, method: str) -> str:
    if method not in scores.values[metric]:
        return ""
    number = short(round(scores.mean(metric, method), 3))
    return f"[green]{number}[/]" if method in scores.best(metric) else number
