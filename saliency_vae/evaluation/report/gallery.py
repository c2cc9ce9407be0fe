"""The gallery: saliency maps of all methods on the same images, as pictures and as a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from saliency_vae.evaluation.report.mosaic import coloured, mosaic
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.wording import title
from saliency_vae.visualization import (
    as_rgb,
    colour,
    data_url,
    encoded,
    rescaled,
    shrink,
)

_LINE = 17  # characters of a line of a caption in the figure


@dataclass(frozen=True)
class Caption:
    """Caption of an image in the gallery.

    Attributes:
        name: File or scene that the image is from.
        decision: The classifier's decision, in words.
        probability: Probability of the decision, in [0, 1].
    """

    name: str
    decision: str
    probability: float

    @property
    def lines(self) -> tuple[str, str]:
        r"""The name, and the probability with the decision.

        Example:
            >>> Caption("IMG_1.jpg", "tench", 0.98).lines
            ('IMG_1.jpg', '98\xa0% tench')
        """
        return self.name, f"{100 * self.probability:.0f}\u00a0% {self.decision}"


def gallery_rows(
    images: Tensor,
    maps: Mapping[str, Tensor],
    masks: Tensor | None,
    *,
    roles: Mapping[str, Role],
) -> list[dict[str, Any]]:
    """Rows of pictures: the images, their true masks, and one row of maps for each method.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        maps: Method to its maps, (B, H, W) or of fewer images, each coloured over its own range.
        masks: True masks, (B, H, W); None if they are not known.
        roles: Method to its role.
    """
    rows = [{"name": "image", "role": "given", "pictures": [_photo(image) for image in images]}]
    if masks is not None:
        pictures = [_map(mask.float(), "gray") for mask in masks]
        rows.append({"name": "true mask", "role": "given", "pictures": pictures})
    return rows + [
        {
            "name": title(method),
            "role": roles[method],
            "pictures": [
                *(_map(values, "viridis") for values in of_method),
                *(None for _ in images[len(of_method) :]),
            ],
        }
        for method, of_method in maps.items()
    ]


def gallery_figure(
    images: Tensor,
    maps: Mapping[str, Tensor],
    masks: Tensor | None = None,
    *,
    roles: Mapping[str, Role],
    captions: Sequence[Caption] = (),
) -> Figure:
    """Draw the saliency maps of all methods on the same images, each map on its own scale.

    Each column is an image and each row a method; above them are the images and their true masks.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        maps: Method to its maps, (B, H, W) or of fewer images.
        masks: True masks, (B, H, W), if they are known.
        roles: Method to its role.
        captions: Caption of each image, above it; may be none.
    """
    rows = {"image": [as_rgb(image) for image in images]}
    if masks is not None:
        rows["true mask"] = [colour(mask.float(), "gray", (0, 1)) for mask in masks]
    return mosaic(rows | coloured(maps), [_wrapped(caption) for caption in captions], roles=roles)


def _wrapped(caption: Caption) -> str:
    """Break a caption into short lines; what does not fit is left out."""
    name, decision = caption.lines
    if len(name) > _LINE:
        name = f"…{name[1 - _LINE :]}"  # the end of a path says the most
    return "\n".join([name, *wrap(decision, _LINE, max_lines=2, placeholder="…")])


def _photo(image: Tensor) -> Markup:
    return _png(Image.fromarray(as_rgb(shrink(image))))


def _map(values: Tensor, colours: str) -> Markup:
    """Draw a map (H, W) from its lowest to its highest value, one byte a pixel."""
    levels = 255 * rescaled(shrink(values[None])[0].double())
    picture = Image.fromarray(levels.round().numpy().astype(np.uint8))
    picture.putpalette(colormaps[colours](range(256), bytes=True)[:, :3].tobytes())
    return _png(picture)


def _png(picture: Image.Image) -> Markup:
    return data_url("image/png", encoded(picture, "PNG", optimize=True))
