"""The figure of class-conditional maps: the same image explained for each of its classes."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.evaluation.report.mosaic import coloured, mosaic
from saliency_vae.evaluation.roles import Role
from saliency_vae.visualization import as_rgb

_OUTLINE = (255, 64, 0)  # red-orange, which neither viridis nor most photographs have
_LINE = 15  # characters of a line above a column


def questions_figure(
    images: Tensor,
    masks: Tensor,
    names: Sequence[Sequence[str]],
    maps: Mapping[str, Tensor],
    *,
    roles: Mapping[str, Role],
) -> Figure:
    """Draw the maps of all methods, one column for each target object.

    The target object, such as a cell of a grid, is outlined. Each map is on its own scale.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        masks: Masks of the n objects of each, (B, n, H, W) bool.
        names: Names of the objects' classes, n for each image.
        maps: Method to its maps, (B, n, H, W) or of fewer images.
        roles: Method to its role.
    """
    photographs = [as_rgb(image) for image in images for _ in range(masks.shape[1])]
    rows = {"image": photographs} | coloured(
        {method: of_method.flatten(0, 1) for method, of_method in maps.items()}
    )
    outlines = [_outline(mask) for mask in masks.flatten(0, 1)]
    for pictures in rows.values():
        for picture, outline in zip(pictures, outlines, strict=False):  # a slow method has fewer
            picture[outline] = _OUTLINE
    texts = ["\n".join(wrap(name, _LINE)[:2]) for of_image in names for name in of_image]
    return mosaic(rows, texts, roles=roles)


def _outline(mask: Tensor) -> NDArray[np.bool_]:
    """Pixels of a mask (H, W) close to its edge or to the edge of the image."""
    reach = max(1, mask.shape[-1] // 64)
    outside = F.pad(~mask, [reach] * 4, value=True).float()
    near = F.max_pool2d(outside[None], 2 * reach + 1, stride=1)[0] > 0
    outline: NDArray[np.bool_] = (near & mask).cpu().numpy()
    return outline
