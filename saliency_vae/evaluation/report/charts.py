"""Figures of an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from torch import Tensor

from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.evaluation.wording import label, title
from saliency_vae.visualization import Pixels, as_rgb, colour, limits

_EXPLAINER = "#c2410c"  # red-orange, which no other line has
_RIVALS = ("#1d4ed8", "#15803d", "#7e22ce", "#0891b2", "#ca8a04", "#be185d", "#4d7c0f", "#475569")
_CONTROL = "#8a837e"
_DASHES = ("-", "--", ":", "-.")
# Where a label may stand beside its point, in points: right or left of it, at several heights.
_PLACES = [(side, up) for up in (-3, 8, -14, 19, -25) for side in (9, -9)]


def figures(results: Results) -> dict[str, Figure]:
    """Draw all figures that the results have the numbers for, by name."""
    scores = results.scores
    drawn = {
        "curves": curves_figure(scores),
        "speed": speed_figure(scores, "iou" if "iou" in scores.values else "insertion"),
    }
    return drawn | uncertainty_figures(results.uncertainty)


def uncertainty_figures(report: UncertaintyReport) -> dict[str, Figure]:
    """Draw the figures on uncertainty that the report has the numbers for, by name."""
    drawn: dict[str, Figure] = {}
    curves, roles = report.curves, report.roles
    if "reliability" in curves:
        drawn["reliability"] = reliability_figure(curves["reliability"])
    for kind, error in (("top", "top 10 %"), ("rank", "rank")):
        if f"sparsification_{kind}" in curves:
            drawn[f"sparsification_{kind}"] = lines_figure(
                curves[f"sparsification_{kind}"],
                x="removed",
                x_label="share of the pixels removed, least certain first",
                y_label="error of the other pixels, relative",
                heading=f"Sparsification, error in {error}: lower is better",
                roles=roles,
            )
    if "selective" in curves:
        drawn["selective"] = lines_figure(
            curves["selective"],
            x="rejected",
            x_label="share of the images withheld, least certain first",
            y_label="insertion AUC of the other images",
            heading="Withholding explanations: higher is better",
            roles=roles,
        )
    for name, lines in curves.items():
        if name.startswith("corruption_"):
            drawn[name] = lines_figure(
                lines,
                x="level",
                x_label=f"strength of the {name.removeprefix('corruption_')}",
                y_label="mean confidence, share of the images",
                heading="Corrupted images: both lines should fall together",
                roles=roles,
            )
    return drawn


def curves_figure(scores: Scores) -> Figure:
    """Draw mean insertion and deletion curves of all methods, one row for each baseline image."""
    rows = len(scores.curves) // 2
    figure = Figure(figsize=(11, 0.5 + 4.2 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False)
    styles = method_styles(scores)
    for axes, (kind, by_method) in zip(panels.flat, scores.curves.items(), strict=True):
        for method in scores.ranking():
            mean = by_method[method].mean(0)
            axes.plot(np.linspace(0, 1, len(mean)), mean, label=title(method), **styles[method])
        name, _, baseline_image = kind.replace("_", " ").partition(" ")
        over = f" over {baseline_image}" if baseline_image else ""
        axes.set_title(f"{name.capitalize()}{over}")
        axes.set_xlabel("share of the pixels, most salient first")
        axes.set_ylabel("probability of the predicted class")
        axes.set_xlim(0, 1)
        _grid(axes)
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside right upper", fontsize=9, frameon=False)
    return figure


def method_styles(scores: Scores) -> dict[str, dict[str, Any]]:
    """Style each method's line: explainers thick, rivals coloured, controls and oracles grey."""
    styles: dict[str, dict[str, Any]] = {}
    for index, method in enumerate(_of_roles(scores, Role.EXPLAINER)):
        styles[method] = _style(_EXPLAINER, _DASHES[index % 4], 2.8, 4)
    for index, method in enumerate(_of_roles(scores, Role.RIVAL)):
        dashes = _DASHES[index // len(_RIVALS) % 4]
        styles[method] = _style(_RIVALS[index % len(_RIVALS)], dashes, 1.4, 3)
    for index, method in enumerate(_of_roles(scores, Role.CONTROL, Role.ORACLE)):
        styles[method] = _style(_CONTROL, _DASHES[index % 4], 1.2, 2)
    return styles


def speed_figure(scores: Scores, metric: str) -> Figure:
    """Draw the time of an explanation against a metric with its interval: the upper left wins."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    styles = method_styles(scores)
    points: dict[str, tuple[float, float]] = {}
    for method in scores.ranking():
        interval = scores.intervals[metric][method]
        points[method] = 1000 * scores.seconds[method], float(interval.mean)
        axes.errorbar(
            *points[method],
            yerr=[[interval.mean - interval.low], [interval.high - interval.mean]],
            fmt="o",
            color=styles[method]["color"],
            markersize=10 if scores.roles[method] is Role.EXPLAINER else 6,
            elinewidth=1.2,
        )
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds an explanation")
    axes.set_ylabel(metric_info(metric).title)
    axes.margins(x=0.12, y=0.08)
    _grid(axes)
    _label(figure, axes, points, scores.roles)
    return figure


def gallery_figure(
    images: Tensor,
    maps: Mapping[str, Tensor],
    masks: Tensor | None = None,
    *,
    roles: Mapping[str, Role],
) -> Figure:
    """Draw the saliency maps of all methods on the same images, each map on its own scale.

    Each column is an image and each row a method; above them are the images and their true masks.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        maps: Method to its maps, (B, H, W).
        masks: True masks, (B, H, W), if they are known.
        roles: Method to its role.
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
    explainers = {title(method) for method in maps if roles[method] is Role.EXPLAINER}
    for tick in axes.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in explainers else "normal")
    return figure


def reliability_figure(points: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the inclusion probability against how often independent runs include the pixel."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_CONTROL, linewidth=1.2, linestyle="--")
    sizes = 20 + 180 * np.asarray(points["share"])
    axes.plot(points["predicted"], points["observed"], color=_EXPLAINER, linewidth=1.6)
    axes.scatter(points["predicted"], points["observed"], s=sizes, color=_EXPLAINER)
    axes.set_xlabel("this explainer's inclusion probability of a pixel")
    axes.set_ylabel("share of independent runs that include it")
    axes.set_title("Calibration: the diagonal is perfect", fontsize=11)
    _grid(axes)
    return figure


def lines_figure(
    lines: Mapping[str, Sequence[float]],
    *,
    x: str,
    x_label: str,
    y_label: str,
    heading: str,
    roles: Mapping[str, Role],
) -> Figure:
    """Draw lines by name over the line named x; those of the explainer stand out."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    names = [name for name in lines if name != x]
    for index, name in enumerate(names):
        role = roles.get(name)
        stands_out = role is Role.EXPLAINER
        axes.plot(
            lines[x],
            lines[name],
            label=label(name, role),
            color=_EXPLAINER if stands_out else _RIVALS[index % len(_RIVALS)],
            linewidth=2.6 if stands_out else 1.4,
            linestyle=_DASHES[index % 4],
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(heading, fontsize=11)
    axes.legend(fontsize=8, frameon=False)
    _grid(axes)
    return figure


def _framed(picture: Pixels, gap: int) -> Pixels:
    """Add white below a picture and to its right."""
    return np.pad(picture, ((0, gap), (0, gap), (0, 0)), constant_values=255)


def _of_roles(scores: Scores, *roles: Role) -> list[str]:
    return [method for method in scores.methods if scores.roles[method] in roles]


def _style(colour: str, dashes: str, width: float, above: int) -> dict[str, Any]:
    return {"color": colour, "linestyle": dashes, "linewidth": width, "zorder": above}


def _grid(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _label(
    figure: Figure,
    axes: Axes,
    points: Mapping[str, tuple[float, float]],
    roles: Mapping[str, Role],
) -> None:
    """Write each name beside its point, in the first place that is free."""
    figure.draw_without_rendering()  # now every place is known
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
                fontweight="bold" if roles[method] is Role.EXPLAINER else "normal",
            )
            box = text.get_window_extent()
            covered = any(box.overlaps(other) for other in taken)
            if offset == _PLACES[-1] or not (covered or any(box.contains(*dot) for dot in dots)):
                break
            text.remove()
        taken.append(box)
