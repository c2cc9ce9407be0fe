"""Figures of an evaluation: insertion and deletion curves, and all others by name."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from saliency_vae.evaluation.measured_baselines import baseline_name, seen_note
from saliency_vae.evaluation.report.cost_chart import cost_figure
from saliency_vae.evaluation.report.line_styles import method_styles, set_grid
from saliency_vae.evaluation.report.uncertainty_charts import uncertainty_figures
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import title

_BANDS = 2  # rivals with a band, beside the explainers
_COLUMNS = 6  # of the legend


def figures(results: Results) -> dict[str, Figure]:
    """Draw all figures that the results have the numbers for, by name."""
    scores = results.scores
    drawn = {
        "curves": curves_figure(scores),
        "speed": cost_figure(scores, "iou" if "iou" in scores.values else "insertion"),
    }
    return drawn | uncertainty_figures(results.uncertainty)


def curves_figure(scores: Scores) -> Figure:
    """Draw mean insertion and deletion curves of all methods, one row for each baseline image.

    Bands around the lines of the explainers and the best two rivals are 95 % intervals of the mean.
    """
    rows, legend = len(scores.curves) // 2, 0.22 * (-(-len(scores.methods) // _COLUMNS) + 1)
    figure = Figure(figsize=(11, 4.2 * rows + legend), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False)
    for axes, (kind, by_method) in zip(panels.flat, scores.curves.items(), strict=True):
        _draw_curves(axes, scores, by_method)
        name, _, baseline = kind.partition("_")
        over = f" over {baseline_name(scores, baseline)}" if baseline or scores.baseline else ""
        axes.set_title(f"{name.capitalize()}{over}{seen_note(scores, baseline)}", fontsize=11)
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        lines, labels, loc="outside lower center", fontsize=9, frameon=False, ncols=_COLUMNS
    )
    return figure


def _draw_curves(axes: Axes, scores: Scores, by_method: Mapping[str, Tensor]) -> None:
    styles, banded = method_styles(scores), _banded(scores)
    for method in scores.ranking():
        if method not in by_method:
            continue
        curves, style = by_method[method], styles[method]
        shares = np.linspace(0, 1, curves.shape[1])
        if method not in banded:
            style = {**style, "linewidth": 0.9}
        axes.plot(shares, curves.mean(0), label=title(method), **style)
        if method in banded:
            _, low, high = scores.resampling().mean(curves)
            axes.fill_between(shares, low, high, color=style["color"], alpha=0.13, linewidth=0)
    axes.set_xlabel("share of the pixels, most salient first")
    axes.set_ylabel("probability of the decision")
    axes.set_xlim(0, 1)
    set_grid(axes)


def _banded(scores: Scores) -> set[str]:
    """Methods whose lines have a band: more bands could not be told apart."""
    ranking = scores.ranking()
    explainers = [method for method in ranking if scores.roles[method] is Role.EXPLAINER]
    rivals = [
        method
        for method in ranking
        if scores.roles[method] is Role.RIVAL and scores.is_complete("insertion", method)
    ]
    return {*explainers, *rivals[:_BANDS]}
