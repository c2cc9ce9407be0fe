"""Figures of an evaluation."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from saliency_vae.overlay import as_rgb, limits
from saliency_vae.results import QUALITIES, Results

OURS = "#c2410c"  # stands out among the greys and blues of the others
_STYLES = ("-", "--", ":", "-.")


def method_colour(method: str, methods: Sequence[str]) -> str | tuple[float, ...]:
    """Colour of a method, the same in every figure."""
    if method.startswith("ours"):
        return OURS
    others = [name for name in methods if not name.startswith("ours")]
    colours = colormaps["tab20"]
    return tuple(colours(others.index(method) % 20))


def curves_figure(results: Results) -> Figure:
    """Mean insertion and deletion curves of all methods."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, len(results.curves), squeeze=False)[0]
    for axes, (kind, by_method) in zip(panels, results.curves.items(), strict=True):
        for index, (method, curves) in enumerate(by_method.items()):
            mean = curves.mean(0)
            axes.plot(
                np.linspace(0, 1, len(mean)),
                mean,
                label=method,
                color=method_colour(method, results.methods),
                linestyle="-" if method.startswith("ours") else _STYLES[index % 4],
                linewidth=2.6 if method.startswith("ours") else 1.1,
                zorder=3 if method.startswith("ours") else 2,
            )
        axes.set_title(kind.capitalize())
        axes.set_xlabel("share of the pixels, most salient first")
        axes.set_ylabel("probability of the predicted class")
        axes.grid(alpha=0.25)
        axes.set_xlim(0, 1)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def speed_figure(results: Results, metric: str) -> Figure:
    """Seconds an explanation against a quality, both with what matters: the upper left wins."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for method in results.methods:
        if method not in results.values[metric]:
            continue
        interval = results.interval(metric, method)
        axes.errorbar(
            1000 * results.seconds[method],
            interval.mean,
            yerr=[[interval.mean - interval.low], [interval.high - interval.mean]],
            fmt="o",
            color=method_colour(method, results.methods),
            markersize=9 if method.startswith("ours") else 6,
            elinewidth=1,
        )
        axes.annotate(
            method,
            (1000 * results.seconds[method], interval.mean),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=8,
            fontweight="bold" if method.startswith("ours") else "normal",
        )
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds an explanation")
    axes.set_ylabel(QUALITIES[metric].title)
    axes.grid(alpha=0.25)
    return figure


def gallery_figure(
    images: Tensor, maps: Mapping[str, Tensor], masks: Tensor | None = None
) -> Figure:
    """Saliency maps of all methods side by side, each on its own scale: one row an image.

    Args:
        images: In [0, 1], (B, 3, H, W).
        maps: Method to its maps, (B, H, W).
        masks: True masks, (B, H, W).
    """
    columns = 1 + (masks is not None) + len(maps)
    figure = Figure(figsize=(1.15 * columns, 1.22 * len(images) + 0.4), layout="constrained")
    grid = figure.subplots(len(images), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    titles = ["image", *(["true mask"] if masks is not None else []), *maps]
    for axes, title in zip(grid[0], titles, strict=True):
        bold = "bold" if title.startswith("ours") else "normal"
        axes.set_title(title.replace("_", " "), fontsize=7, fontweight=bold)
    for row, axes in enumerate(grid):
        axes[0].imshow(as_rgb(images[row]))
        if masks is not None:
            axes[1].imshow(masks[row].float().numpy(), cmap="gray", vmin=0, vmax=1)
        for column, values in enumerate(maps.values(), start=columns - len(maps)):
            low, high = limits(values[row])
            axes[column].imshow(values[row].numpy(), cmap="viridis", vmin=low, vmax=high)
    return figure


def reliability_figure(reliability: Mapping[str, Sequence[float]], error: float) -> Figure:
    """Inclusion probability against how often independent runs include the pixel."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    sizes = 20 + 180 * np.asarray(reliability["share"])
    axes.plot(reliability["predicted"], reliability["observed"], color=OURS, linewidth=1.5)
    axes.scatter(reliability["predicted"], reliability["observed"], s=sizes, color=OURS)
    axes.set_xlabel("inclusion probability")
    axes.set_ylabel("share of independent runs that include the pixel")
    axes.set_title(f"Calibration: ECE {error:.3f}", fontsize=10)
    axes.grid(alpha=0.25)
    return figure


def lines_figure(
    lines: Mapping[str, Sequence[float]], *, x: Sequence[float], x_label: str, y_label: str
) -> Figure:
    """Draw one line for each name over a common axis; ours, named first, stands out."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, values) in enumerate(lines.items()):
        first = index == 0
        axes.plot(
            x,
            values,
            label=name,
            color=OURS if first else None,
            linewidth=2.4 if first else 1.2,
            linestyle=_STYLES[index % 4],
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
    return figure
