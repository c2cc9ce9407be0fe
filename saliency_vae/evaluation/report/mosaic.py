"""One figure of pictures of the same images, with a row for each method."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.wording import title
from saliency_vae.visualization import Pixels, colour, limits

_INCHES = 1.05  # width of a column


def coloured(maps: Mapping[str, Tensor]) -> dict[str, list[Pixels]]:
    """Colour the maps (n, H, W) of each method, each on its own scale: title to pictures."""
    return {
        title(method): [colour(values, "viridis", limits(values)) for values in of_method]
        for method, of_method in maps.items()
    }


def mosaic(
    rows: Mapping[str, Sequence[Pixels]], above: Sequence[str], *, roles: Mapping[str, Role]
) -> Figure:
    """Draw rows of pictures with their names at the left, those of explainers bold.

    Args:
        rows: Name to pictures of one size, (H, W, 3); rows shorter than the first are padded with
            white.
        above: Text above each column; may be none.
        roles: Method to its role.
    """
    first, *_ = rows.values()
    height, width, _ = first[0].shape
    gap = max(1, width // 24)
    step = np.array([height + gap, width + gap])
    pixels = np.full((*(step * (len(rows), len(first))), 3), 255, dtype=np.uint8)
    for row, pictures in enumerate(rows.values()):
        for column, picture in enumerate(pictures):
            top, left = step * (row, column)
            pixels[top : top + height, left : left + width] = picture
    names_width = 0.15 + 0.085 * max(map(len, rows))  # inches
    texts_height = 0.1 + 0.12 * max((text.count("\n") + 1 for text in above), default=0)
    inches = _INCHES * len(first), _INCHES * len(rows) * height / width
    whole = names_width + inches[0], texts_height + inches[1]
    figure = Figure(figsize=whole)
    box = (names_width / whole[0], 0, inches[0] / whole[0], inches[1] / whole[1])
    axes = figure.add_axes(box)
    axes.imshow(pixels, interpolation="nearest")
    columns = (np.arange(len(above)) + 0.5) * step[1] - gap / 2
    axes.set_xticks(columns, above, fontsize=6.5, parse_math=False)
    axes.xaxis.tick_top()
    axes.set_yticks((np.arange(len(rows)) + 0.5) * step[0] - gap / 2, list(rows), fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    explainers = {title(method) for method, role in roles.items() if role is Role.EXPLAINER}
    for tick in axes.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in explainers else "normal")
    return figure
