"""The figure of class-conditional maps: the same image, asked about each of its classes in turn."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.wording import title
from saliency_vae.visualization import Pixels, as_rgb, colour, limits

_OUTLINE = (255, 64, 0)  # red-orange, which neither viridis nor most photographs have
_LINE = 15  # characters of a line above a column
_INCHES = 1.05  # width of a column


def questions_figure(
    images: Tensor,
    masks: Tensor,
    names: Sequence[Sequence[str]],
    maps: Mapping[str, Tensor],
    *,
    roles: Mapping[str, Role],
) -> Figure:
    """Draw the maps of all methods, one column for each object that they were asked about.

    The object, such as the cell of a grid, is outlined. Each map is on its own scale.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        masks: Masks of the n objects of each, (B, n, H, W) bool.
        names: Names of the objects' classes, n for each image.
        maps: Method to its maps, (B, n, H, W) or of fewer images.
        roles: Method to its role.
    """
    outlines = [_outline(mask) for mask in masks.flatten(0, 1)]
    photographs = [as_rgb(image) for image in images for _ in range(masks.shape[1])]
    rows = {"image": photographs}
    for method, of_method in maps.items():
        rows[title(method)] = [
            colour(values, "viridis", limits(values)) for values in of_method.flatten(0, 1)
        ]
    texts = ["\n".join(wrap(name, _LINE)[:2]) for of_image in names for name in of_image]
    figure = _mosaic([_row(pictures, outlines) for pictures in rows.values()], list(rows), texts)
    explainers = {title(method) for method in maps if roles[method] is Role.EXPLAINER}
    for tick in figure.axes[0].get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in explainers else "normal")
    return figure


def _mosaic(rows: Sequence[Pixels], names: Sequence[str], above: Sequence[str]) -> Figure:
    """Lay rows of equal pictures one below the other, with their names and those of the columns."""
    pixels = np.concatenate(rows)
    height, width = len(pixels) / len(rows), pixels.shape[1] / len(above)
    size = _INCHES * len(above) + 1.7, _INCHES * len(rows) * height / width + 0.4
    figure = Figure(figsize=size, layout="compressed")
    axes = figure.subplots()
    axes.imshow(pixels, interpolation="nearest")
    columns = (np.arange(len(above)) + 0.5) * width
    axes.set_xticks(columns, above, fontsize=6.5, parse_math=False)
    axes.xaxis.tick_top()
    axes.set_yticks((np.arange(len(rows)) + 0.5) * height, names, fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _row(pictures: Sequence[Pixels], outlines: Sequence[NDArray[np.bool_]]) -> Pixels:
    """Outline and frame pictures, side by side; white where there are fewer than outlines."""
    drawn = []
    for place, outline in enumerate(outlines):
        if place < len(pictures):
            picture = pictures[place].copy()
            picture[outline] = _OUTLINE
        else:
            picture = np.full_like(pictures[0], 255)
        gap = max(1, picture.shape[1] // 48)
        drawn.append(np.pad(picture, ((gap, gap), (gap, gap), (0, 0)), constant_values=255))
    return np.concatenate(drawn, axis=1)


def _outline(mask: Tensor) -> NDArray[np.bool_]:
    """Pixels of a mask (H, W) close to its edge or to the edge of the image."""
    reach = max(1, mask.shape[-1] // 64)
    outside = F.pad(~mask, [reach] * 4, value=True).float()
    near = F.max_pool2d(outside[None], 2 * reach + 1, stride=1)[0] > 0
    outline: NDArray[np.bool_] = (near & mask).cpu().numpy()
    return outline
