"""The gallery: saliency maps of all methods on the same images, as pictures and as a figure."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import wrap
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.wording import title
from saliency_vae.visualization import Pixels, as_rgb, colour, limits, rescaled, shrink

_LINE = 17  # characters of a line of a caption in the figure


@dataclass(frozen=True)
class Caption:
    """What the gallery says about an image.

    Attributes:
        name: File or scene that the image is from.
        decision: Class that the classifier decides for.
        probability: Its probability, in [0, 1].
        target: Class that the maps explain; empty if it is the decision.
    """

    name: str
    decision: str
    probability: float
    target: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        r"""Name, probability and decision, and target if it is another class.

        Example:
            >>> Caption("IMG_1.jpg", "tench", 0.98, target="reel").lines
            ('IMG_1.jpg', '98\xa0% tench', 'asked: reel')
        """
        asked = (f"asked: {self.target}",) if self.target else ()
        return (self.name, f"{100 * self.probability:.0f}\u00a0% {self.decision}", *asked)


def gallery_rows(
    images: Tensor,
    maps: Mapping[str, Tensor],
    masks: Tensor | None,
    *,
    roles: Mapping[str, Role],
) -> list[dict[str, Any]]:
    """Pictures of the same images: one row for each method, above them image and true mask.

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
    height, width = images.shape[-2:]
    gap = max(1, width // 24)
    rows = _pictures(images, maps, masks)
    framed = [
        np.concatenate([_framed(picture, gap) for picture in pictures], axis=1)
        for pictures in rows.values()
    ]
    texts = [_wrapped(caption) for caption in captions]
    left = 0.15 + 0.085 * max(map(len, rows))  # inches, of the names
    above = 0.1 + 0.12 * max((text.count("\n") + 1 for text in texts), default=0)
    inches = 1.05 * len(images), 1.05 * len(rows) * height / width
    whole = left + inches[0], above + inches[1]
    figure = Figure(figsize=whole)
    box = (left / whole[0], 0, inches[0] / whole[0], inches[1] / whole[1])
    axes = figure.add_axes(box)
    axes.imshow(np.concatenate(framed), interpolation="nearest")
    middles = (np.arange(len(texts)) + 0.5) * (width + gap) - gap / 2
    axes.set_xticks(middles, texts, fontsize=6.5, parse_math=False)
    axes.xaxis.tick_top()
    middles = (np.arange(len(rows)) + 0.5) * (height + gap) - gap / 2
    axes.set_yticks(middles, list(rows), fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    explainers = {title(method) for method in maps if roles[method] is Role.EXPLAINER}
    for tick in axes.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() in explainers else "normal")
    return figure


def _pictures(
    images: Tensor, maps: Mapping[str, Tensor], masks: Tensor | None
) -> dict[str, list[Pixels]]:
    """Rows of the figure by name; white where a method has no map."""
    rows = {"image": [as_rgb(image) for image in images]}
    if masks is not None:
        rows["true mask"] = [colour(mask.float(), "gray", (0, 1)) for mask in masks]
    white = np.full_like(rows["image"][0], 255)
    for method, of_method in maps.items():
        drawn = [colour(values, "viridis", limits(values)) for values in of_method]
        rows[title(method)] = drawn + [white] * (len(images) - len(drawn))
    return rows


def _wrapped(caption: Caption) -> str:
    """Break a caption into short lines; what does not fit is left out."""
    name, *classes = caption.lines
    if len(name) > _LINE:
        name = f"…{name[1 - _LINE :]}"  # the end of a path tells the most
    lines = [part for line in classes for part in wrap(line, _LINE, max_lines=2, placeholder="…")]
    return "\n".join([name, *lines])


def _framed(picture: Pixels, gap: int) -> Pixels:
    """Add white below a picture and to its right."""
    return np.pad(picture, ((0, gap), (0, gap), (0, 0)), constant_values=255)


def _photo(image: Tensor) -> Markup:
    return _png(Image.fromarray(as_rgb(shrink(image))))


def _map(values: Tensor, colours: str) -> Markup:
    """Draw a map (H, W) from its lowest to its highest value, one byte a pixel."""
    levels = 255 * rescaled(shrink(values[None])[0].double())
    picture = Image.fromarray(levels.round().numpy().astype(np.uint8))
    picture.putpalette(colormaps[colours](range(256), bytes=True)[:, :3].tobytes())
    return _png(picture)


def _png(picture: Image.Image) -> Markup:
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return data_url("image/png", buffer.getvalue())


def data_url(kind: str, content: bytes) -> Markup:
    """Write content into a data URL of a media type."""
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")
