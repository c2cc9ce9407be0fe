"""Figures of an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from torch import Tensor

from saliency_vae.evaluation.metric_info import metric_info, title
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.verdicts import OURS
from saliency_vae.visualization import Pixels, as_rgb, colour, limits

_OURS = "#c2410c"  # red-orange, which no other line has
_OTHERS = ("#1d4ed8", "#15803d", "#7e22ce", "#0891b2", "#ca8a04", "#be185d", "#4d7c0f", "#475569")
_CONTROL = "#8a837e"
_DASHES = ("-", "--", ":", "-.")
_PLACES = [(side, up) for up in (-3, 8, -14, 19, -25) for side in (9, -9)]  # of a label, points


def figures(results: Results) -> dict[str, Figure]:
    """All figures that the results have the numbers for, by name."""
    drawn = {
        "curves": curves_figure(results),
        "speed": speed_figure(results, "iou" if "iou" in results.values else "insertion"),
    }
    curves = results.uncertainty_curves
    if "reliability" in curves:
        drawn["reliability"] = reliability_figure(curves["reliability"])
    for error, of in (("top", "the top 10 %"), ("rank", "the rank")):
        if f"sparsification_{error}" in curves:
            drawn[f"sparsification_{error}"] = lines_figure(
                curves[f"sparsification_{error}"],
                x="removed",
                x_label="share of the pixels removed, least certain first",
                y_label="error of the rest, relative",
                heading=f"Sparsification, error of {of}: lower is better",
            )
    if "selective" in curves:
        drawn["selective"] = lines_figure(
            curves["selective"],
            x="rejected",
            x_label="share of the images withheld, least certain first",
            y_label="insertion AUC of the rest",
            heading="Selective explanation: higher is better",
        )
    for name, lines in curves.items():
        if name.startswith("corruption_"):
            drawn[name] = lines_figure(
                lines,
                x="level",
                x_label=f"strength of the {name.removeprefix('corruption_')}",
                y_label="share, probability",
                heading="Corrupted images: both should fall together",
            )
    return drawn


def curves_figure(results: Results) -> Figure:
    """Mean insertion and deletion curves of all methods, one row a baseline."""
    rows = len(results.curves) // 2
    figure = Figure(figsize=(11, 0.5 + 4.2 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False)
    styles = method_styles(results)
    for axes, (kind, by_method) in zip(panels.flat, results.curves.items(), strict=True):
        for method in results.ranking():
            mean = by_method[method].mean(0)
            axes.plot(np.linspace(0, 1, len(mean)), mean, label=title(method), **styles[method])
        name, _, removal = kind.replace("_", " ").partition(" ")
        axes.set_title(f"{name.capitalize()}, {removal} baseline" if removal else name.capitalize())
        axes.set_xlabel("share of the pixels, most salient first")
        axes.set_ylabel("probability of the predicted class")
        axes.set_xlim(0, 1)
        _grid(axes)
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside right upper", fontsize=9, frameon=False)
    return figure


def method_styles(results: Results) -> dict[str, dict[str, Any]]:
    """Line of each method: ours thick, controls thin and grey, the others by colour."""
    others = [m for m in results.methods if not _is_ours(m) and m not in results.controls]
    controls = [method for method in results.methods if method in results.controls]
    own = [method for method in results.methods if _is_ours(method)]
    styles: dict[str, dict[str, Any]] = {}
    for index, method in enumerate(own):
        styles[method] = _style(_OURS, _DASHES[index % 4], 2.8, 4)
    for index, method in enumerate(others):
        dashes = _DASHES[index // len(_OTHERS) % 4]
        styles[method] = _style(_OTHERS[index % len(_OTHERS)], dashes, 1.4, 3)
    for index, method in enumerate(controls):
        styles[method] = _style(_CONTROL, _DASHES[index % 4], 1.2, 2)
    return styles


def speed_figure(results: Results, metric: str) -> Figure:
    """Milliseconds an explanation against a quality with its interval: the upper left wins."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    styles = method_styles(results)
    points: dict[str, tuple[float, float]] = {}
    for method in results.ranking():
        interval = results.intervals[metric][method]
        points[method] = 1000 * results.seconds[method], float(interval.mean)
        axes.errorbar(
            *points[method],
            yerr=[[interval.mean - interval.low], [interval.high - interval.mean]],
            fmt="o",
            color=styles[method]["color"],
            markersize=10 if _is_ours(method) else 6,
            elinewidth=1.2,
        )
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds an explanation")
    axes.set_ylabel(metric_info(metric).title)
    axes.margins(x=0.12, y=0.08)
    _grid(axes)
    _label(figure, axes, points)
    return figure


def gallery_figure(
    images: Tensor, maps: Mapping[str, Tensor], masks: Tensor | None = None
) -> Figure:
    """Saliency maps of all methods on the same images, each map on its own scale.

    One column an image, one row a method; above them the images and their true masks.

    Args:
        images: In [0, 1], (B, 3, H, W).
        maps: Method to its maps, (B, H, W).
        masks: True masks, (B, H, W).
    """
    rows = {"image": [as_rgb(image) for image in images]}
    if masks is not None:
        rows["true mask"] = [colour(mask.float(), "gray", (0, 1)) for mask in masks]
    for method, of_method in maps.items():
        rows[title(method)] = [colour(values, "viridis", limits(values)) for values in of_method]
    height, width = images.shape[-2:]
    gap = max(1, width // 24)
    framed = [
        np.concatenate([_framed(picture, gap) for picture in pictures], axis=1)
        for pictures in rows.values()
    ]
    inches = 1.05 * len(images), 1.05 * len(rows) * height / width
    figure = Figure(figsize=(inches[0] + 1.7, inches[1] + 0.1), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.concatenate(framed), interpolation="nearest")
    axes.set_xticks([])
    middles = (np.arange(len(rows)) + 0.5) * (height + gap) - gap / 2
    axes.set_yticks(middles, list(rows), fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if _is_ours(label.get_text()) else "normal")
    return figure


def reliability_figure(points: Mapping[str, Sequence[float]]) -> Figure:
    """Inclusion probability against how often independent runs include the pixel."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_CONTROL, linewidth=1.2, linestyle="--")
    sizes = 20 + 180 * np.asarray(points["share"])
    axes.plot(points["predicted"], points["observed"], color=_OURS, linewidth=1.6)
    axes.scatter(points["predicted"], points["observed"], s=sizes, color=_OURS)
    axes.set_xlabel("our inclusion probability")
    axes.set_ylabel("share of the independent runs that agree")
    axes.set_title("Calibration: the diagonal is perfect", fontsize=11)
    _grid(axes)
    return figure


def lines_figure(
    lines: Mapping[str, Sequence[float]], *, x: str, x_label: str, y_label: str, heading: str
) -> Figure:
    """Draw lines by name over the one named x; ours stands out."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    names = [name for name in lines if name != x]
    for index, name in enumerate(names):
        ours = _is_ours(name)
        axes.plot(
            lines[x],
            lines[name],
            label=name,
            color=_OURS if ours else _OTHERS[index % len(_OTHERS)],
            linewidth=2.6 if ours else 1.4,
            linestyle=_DASHES[index % 4],
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(heading, fontsize=11)
    axes.legend(fontsize=8, frameon=False)
    _grid(axes)
    return figure


def _framed(picture: Pixels, gap: int) -> Pixels:
    """A picture with white below and to its right."""
    return np.pad(picture, ((0, gap), (0, gap), (0, 0)), constant_values=255)


def _is_ours(name: str) -> bool:
    return name.startswith(OURS)


def _style(colour: str, dashes: str, width: float, above: int) -> dict[str, Any]:
    return {"color": colour, "linestyle": dashes, "linewidth": width, "zorder": above}


def _grid(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _label(figure: Figure, axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its point, in the first place where nothing else stands."""
    figure.draw_without_rendering()  # from here on every place is known
    dots = [axes.transData.transform(point) for point in points.values()]
    taken: list[Bbox] = []
    for method, point in points.items():
        for offset in _PLACES:
            text = axes.annotate(
                title(method),
                point,
                xytext=offset,
                textcoords="offset points",
                ha="left" if offset[0] > 0 else "right",
                fontsize=9,
                fontweight="bold" if _is_ours(method) else "normal",
            )
            box = text.get_window_extent()
            covered = any(box.overlaps(other) for other in taken)
            if offset == _PLACES[-1] or not (covered or any(box.contains(*dot) for dot in dots)):
                break
            text.remove()
        taken.append(box)
