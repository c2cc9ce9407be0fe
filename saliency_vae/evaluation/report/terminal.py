"""What the terminal shows of an evaluation: the ranking, 100 columns wide, and the findings."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from saliency_vae.evaluation.metric_info import metric_info, short, three_digits
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.verdicts import OURS

# What there is room for; metrics.csv and the report hold the rest.
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


def ranking_table(results: Results) -> Table:
    """Lay out the means, best insertion first; the best of each column in green."""
    metrics = [metric for metric in _SHOWN if metric in results.values]
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("method", no_wrap=True)
    for metric in metrics:
        described = metric_info(metric)
        table.add_column(f"{described.short}{described.arrow}", justify="right", no_wrap=True)
    table.add_column("ms↓", justify="right", no_wrap=True)
    for method in results.ranking():
        cells = [_cell(results, metric, method) for metric in metrics]
        style = "bold" if method.startswith(OURS) else ""
        table.add_row(method, *cells, three_digits(1000 * results.seconds[method]), style=style)
    return table


def in_lines(results: Results) -> list[str]:
    """Write the findings and what was left out, one a line."""
    found = [*results.findings, *results.uncertainty_findings]
    return [
        *(finding.text for finding in found),
        *(f"Left out: {line}" for line in results.left_out),
    ]


def _cell(results: Results, metric: str, method: str) -> str:
    number = short(results.mean(metric, method))
    return f"[green]{number}[/]" if method in results.best(metric) else number
