"""Figure of quality against cost: passes of the classifier, and time."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.report.line_styles import method_styles, set_grid
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import title

_LINE = 0.21  # height of a name, inches


def cost_figure(scores: Scores, metric: str) -> Figure:
    """Draw a metric with its interval against the cost of an explanation; the upper left is best.

    One panel shows the passes of the classifier, if they were counted, and one the milliseconds.
    The names stand in a separate column, best first, with lines to the points.

    Args:
        scores: Scores of the methods.
        metric: Metric of the vertical axes.
    """
    by_method = scores.intervals[metric]
    methods = sorted(by_method, key=lambda method: -float(by_method[method].mean))
    milliseconds = {method: 1000 * seconds for method, seconds in scores.seconds.items()}
    figure = Figure(figsize=(12, max(4.6, 1 + _LINE * len(methods))), layout="constrained")
    if scores.passes:
        left, names, right = figure.subplots(1, 3, width_ratios=(4, 2, 4))
        _draw_points(left, scores, metric, scores.passes)
        left.set_xscale("symlog", linthresh=1)  # some methods take no passes at all
        left.set_xlabel("passes of the classifier an explanation")
    else:
        left, (names, right) = None, figure.subplots(1, 2, width_ratios=(2, 8))
    _draw_points(right, scores, metric, milliseconds)
    right.yaxis.tick_right()  # where no line to a name crosses it
    right.yaxis.set_label_position("right")
    right.spines["right"].set_visible(True)
    right.spines["left"].set_visible(False)
    right.set_xscale("log")
    right.set_xlabel("milliseconds an explanation")
    _write_names(names, scores, methods)
    if left is not None:
        _lead(names, 0, left, scores, metric, methods, scores.passes)
    _lead(names, 1, right, scores, metric, methods, milliseconds)
    return figure


def _draw_points(axes: Axes, scores: Scores, metric: str, costs: Mapping[str, float]) -> None:
    styles = method_styles(scores)
    for method, interval in scores.intervals[metric].items():
        if method in costs:
            mean, low, high = map(float, interval)
            axes.errorbar(
                costs[method],
                mean,
                # Rounding may put the mean just outside, as where all images are one group.
                yerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]],
                fmt="o",
                color=styles[method]["color"],
                markersize=9 if scores.roles[method] is Role.EXPLAINER else 5.5,
                elinewidth=0.8,
                zorder=styles[method]["zorder"],
            )
    axes.set_ylabel(metric_info(metric).title)
    axes.margins(x=0.05, y=0.06)
    set_grid(axes)


def _write_names(axes: Axes, scores: Scores, methods: Sequence[str]) -> None:
    styles = method_styles(scores)
    axes.set_axis_off()
    axes.set_ylim(len(methods) - 0.5, -0.5)
    for place, method in enumerate(methods):
        axes.text(
            0.5,
            place,
            title(method),
            ha="center",
            va="center",
            fontsize=9,
            color=styles[method]["color"],
            fontweight="bold" if scores.roles[method] is Role.EXPLAINER else "normal",
            parse_math=False,
        )


def _lead(
    names: Axes,
    side: int,
    panel: Axes,
    scores: Scores,
    metric: str,
    methods: Sequence[str],
    costs: Mapping[str, float],
) -> None:
    """Draw lines from one side of the names, 0 left or 1 right, to the points of a panel."""
    styles = method_styles(scores)
    for place, method in enumerate(methods):
        if method in costs:
            line = ConnectionPatch(
                (side, place),
                (costs[method], float(scores.intervals[metric][method].mean)),
                "data",
                "data",
                axesA=names,
                axesB=panel,
                color=styles[method]["color"],
                linewidth=0.6,
                alpha=0.5,
                zorder=1,
            )
            line.set_in_layout(False)
            names.figure.add_artist(line)
