"""A sweep in one picture: parallel coordinates of its settings and metrics."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def draw_sweep(rows: Sequence[Row], metrics: Mapping[str, str], path: Path) -> None:
    """Draw each job as a line over parallel axes, one for each differing setting and each metric.

    Lines are coloured by the first metric, the lowest dark. Nothing is drawn for fewer than two
    finished jobs.

    Args:
        rows: Jobs, with their settings as text and their metrics as numbers.
        metrics: Names of the metrics, with their headings.
        path: PNG to write.
    """
    from matplotlib import colormaps  # slow, and not needed for --help
    from matplotlib.figure import Figure

    rows = [row for row in rows if all(math.isfinite(row[metric]) for metric in metrics)]
    if len(rows) < 2:
        return
    columns = dict.fromkeys(column for row in rows for column in row)
    compared = {column: [row.get(column, "") for row in rows] for column in columns}
    shown = {
        column: _Axis(values)
        for column, values in compared.items()
        if column in metrics or (column not in ("job", "status") and len(set(values)) > 1)
    }
    figure = Figure(figsize=(1.6 * len(shown) + 1, 4.2))
    axes = figure.subplots()
    order = shown[next(iter(metrics))].places
    for index in sorted(range(len(rows)), key=lambda i: -order[i]):  # the best one on top
        heights = [axis.places[index] for axis in shown.values()]
        axes.plot(range(len(shown)), heights, color=colormaps["viridis"](0.9 * order[index]))
    for x, (column, axis) in enumerate(shown.items()):
        axes.axvline(x, color="0.7", linewidth=1, zorder=0)
        for label, height in axis.labels:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
            axes.text(x + 0.03, height, label, fontsize=8, va="center", zorder=3, bbox=box)
        heading = metrics.get(column, column.replace(".", ".\n"))
        axes.text(x, 1.06, heading, ha="center", va="bottom", fontsize=9)
    axes.set(xlim=(-0.2, len(shown) - 0.4), ylim=(-0.05, 1.05))
    axes.axis("off")
    figure.savefig(path, dpi=120, bbox_inches="tight")


class _Axis:
    """One axis of the picture.

    Args:
        values: Value of each job: numbers, text that reads as numbers, or text.

    Attributes:
        places: Position of each job on the axis, from 0 to 1.
        labels: Tick labels, with their positions on the axis.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        try:
            numbers = [float(value) for value in values]
        except ValueError:  # options: one place each
            options = sorted(set(map(str, values)))
            numbers = [float(options.index(str(value))) for value in values]
            ticks = {float(i): option for i, option in enumerate(options)}
        else:
            ends = (min(numbers), max(numbers))
            known = set(numbers) if isinstance(values[0], str) else set(ends)
            ticks = {number: f"{number:.4g}" for number in known}
        low, high = min(numbers), max(numbers)
        width = high - low or 1.0
        self.places = [(number - low) / width for number in numbers]
        self.labels = [(label, (number - low) / width) for number, label in ticks.items()]
