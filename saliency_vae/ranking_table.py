"""The ranking on a terminal, 100 columns wide."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from saliency_vae.findings import OURS
from saliency_vae.results import Results, quality, short

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
    "infidelity",
    "sensitivity",
)


def ranking_table(results: Results) -> Table:
    """Lay out the means, best insertion first; the best of each column in green."""
    metrics = [metric for metric in _SHOWN if metric in results.values]
    table = Table("method", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    for metric in metrics:
        described = quality(metric)
        table.add_column(f"{described.short}{described.arrow}", justify="right", no_wrap=True)
    table.add_column("ms↓", justify="right", no_wrap=True)
    for method in results.ranking():
        cells = [_cell(results, metric, method) for metric in metrics]
        style = "bold" if method.startswith(OURS) else ""
        table.add_row(method, *cells, f"{1000 * results.seconds[method]:.3g}", style=style)
    return table


def _cell(results: Results, metric: str, method: str) -> str:
    number = short(results.mean(metric, method))
    return f"[green]{number}[/]" if results.best(metric) == method else number
