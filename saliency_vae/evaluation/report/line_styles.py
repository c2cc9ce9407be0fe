"""Styles of lines and points: explainers stand out, controls and oracles stay in the background."""

from typing import Any

from matplotlib.axes import Axes

from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores

EXPLAINER_COLOUR = "#c2410c"  # red-orange, which no other line has
RIVAL_COLOURS = (
    "#1d4ed8",
    "#15803d",
    "#7e22ce",
    "#0891b2",
    "#ca8a04",
    "#be185d",
    "#4d7c0f",
    "#475569",
)
CONTROL_COLOUR = "#8a837e"
DASHES = ("-", "--", ":", "-.")


def method_styles(scores: Scores) -> dict[str, dict[str, Any]]:
    """Style each method's line: explainers thick, rivals coloured, controls and oracles grey."""
    styles: dict[str, dict[str, Any]] = {}
    for index, method in enumerate(_of_roles(scores, Role.EXPLAINER)):
        styles[method] = _style(EXPLAINER_COLOUR, DASHES[index % 4], 2.8, 4)
    for index, method in enumerate(_of_roles(scores, Role.RIVAL)):
        dashes = DASHES[index // len(RIVAL_COLOURS) % 4]
        styles[method] = _style(RIVAL_COLOURS[index % len(RIVAL_COLOURS)], dashes, 1.4, 3)
    for index, method in enumerate(_of_roles(scores, Role.CONTROL, Role.ORACLE)):
        styles[method] = _style(CONTROL_COLOUR, DASHES[index % 4], 1.2, 2)
    return styles


def set_grid(axes: Axes) -> None:
    """Draw a faint grid, and no frame above and to the right."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _of_roles(scores: Scores, *roles: Role) -> list[str]:
    return [method for method in scores.methods if scores.roles[method] in roles]


def _style(colour: str, dashes: str, width: float, above: int) -> dict[str, Any]:
    return {"color": colour, "linestyle": dashes, "linewidth": width, "zorder": above}
