"""Figures on how good an explainer's uncertainty is."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from saliency_vae.evaluation.report.line_styles import (
    CONTROL_COLOUR,
    DASHES,
    EXPLAINER_COLOUR,
    RIVAL_COLOURS,
    set_grid,
)
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.evaluation.wording import baseline_title, label


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
                x_label="share of the pixels withheld, least certain first",
                y_label="error of the other pixels, relative",
                heading=f"Error-coverage curves, error in {error}: lower is better",
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
        if name.startswith("predictive_"):
            drawn[name] = lines_figure(
                lines,
                x="changed",
                x_label="share of the kept set that is changed",
                y_label="share of the decisions that stay",
                heading=f"Drawn maps over {baseline_title(name.removeprefix('predictive_'))}: "
                "higher is better",
                roles=roles,
            )
        if name.startswith("corruption_"):
            drawn[name] = lines_figure(
                lines,
                x="level",
                x_label=f"strength of the {name.removeprefix('corruption_')}",
                y_label="mean confidence, share of the images",
                heading="Corrupted images: confidence should fall as agreement does",
                roles=roles,
            )
    return drawn


def reliability_figure(points: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the inclusion probability against how often independent runs include the pixel."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=CONTROL_COLOUR, linewidth=1.2, linestyle="--")
    sizes = 20 + 180 * np.asarray(points["share"])
    axes.plot(points["predicted"], points["observed"], color=EXPLAINER_COLOUR, linewidth=1.6)
    axes.scatter(points["predicted"], points["observed"], s=sizes, color=EXPLAINER_COLOUR)
    axes.set_xlabel("this explainer's inclusion probability of a pixel")
    axes.set_ylabel("share of independent runs that include it")
    axes.set_title("Calibration: the diagonal is perfect", fontsize=11)
    set_grid(axes)
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
    """Draw lines by name against the line named ``x``; those of the explainer stand out."""
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
            color=EXPLAINER_COLOUR if stands_out else RIVAL_COLOURS[index % len(RIVAL_COLOURS)],
            linewidth=2.6 if stands_out else 1.4,
            linestyle=DASHES[index % 4],
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(heading, fontsize=11)
    axes.legend(fontsize=8, frameon=False)
    set_grid(axes)
    return figure
