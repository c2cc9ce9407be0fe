"""A gallery of explanations: pages that open from disk, need no network and run no one's code.

Each image becomes one small JSON file, an :class:`Entry`; :func:`write_gallery` strings the files
together. So neither the number of images nor an interrupted run matters.
"""

import base64
import html
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.runtime.atomic_file import whole_file, write_whole
from saliency_vae.visualization.content_policy import content_policy

LONGER_SIDE = 160  # pixels of a picture in the gallery, at most
PAGE = 500  # images: what a browser scrolls well
_TEMPLATE = Path(__file__).parent / "templates/gallery.html"
_PICTURES = ("image", "baseline", "maps")


@dataclass(frozen=True)
class Entry:
    """One explained image.

    Args:
        name: Of the image file, as shown.
        panel: Relative path of the panel that shows it large, ``""`` if there is none.
        confidence: Of the explanation.
        predictions: Labels and probabilities that the classifier gives the image, best first.
        image: JPEG.
        baseline: JPEG of the same size, without information.
        maps: PNG of the same size. Red: ``255 sqrt(rank)``, where rank is 0 at the most salient
            pixel and 1 past the least, so that small fractions are resolved finely. Green: the
            posterior mean from its lowest to its highest. Blue: uncertainty ``4 P(1-P)``.
    """

    name: str
    panel: str
    confidence: float
    predictions: list[tuple[str, float]]
    image: bytes
    baseline: bytes
    maps: bytes

    def save(self, path: Path) -> None:
        """Write the entry as JSON: whole or not at all."""
        fields = asdict(self)
        fields |= {name: base64.b64encode(fields[name]).decode() for name in _PICTURES}
        write_whole(path, json.dumps(fields, allow_nan=False))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: If it is not an entry.
        """
        fields = _read(path)
        pictures = {name: base64.b64decode(fields[name]) for name in _PICTURES}
        predictions = [(label, probability) for label, probability in fields["predictions"]]
        return cls(**fields | pictures | {"predictions": predictions})


def entry(
    name: str,
    image: Tensor,
    *,
    baseline: Tensor,
    mean: Tensor,
    inclusion: Tensor,
    confidence: float,
    predictions: Sequence[tuple[str, float]],
    panel: str = "",
) -> Entry:
    """Make the entry of an image: pictures of at most 160 pixels on the longer side.

    Args:
        name: Of the image file.
        image: In [0, 1], (3, H, W).
        baseline: In [0, 1], (3, H, W).
        mean: Of the posterior, (H, W).
        inclusion: Probability that a pixel is among the top 10 %, (H, W).
        confidence: Of the explanation.
        predictions: Labels and probabilities, best first.
        panel: Path of the image's panel relative to the gallery.

    Raises:
        ValueError: If the sizes differ or a number is not finite.
    """
    sizes = {tuple(tensor.shape[-2:]) for tensor in (image, baseline, mean, inclusion)}
    if len(sizes) > 1:
        raise ValueError(f"Expected image, baseline and maps of one size. Found {sorted(sizes)}.")
    if not (math.isfinite(confidence) and mean.isfinite().all() and inclusion.isfinite().all()):
        raise ValueError(f"Expected a finite explanation of {name}. Found NaN or infinity.")
    image, baseline = shrink(image), shrink(baseline)
    mean, uncertainty = shrink(mean[None]), shrink((4 * inclusion * (1 - inclusion))[None])
    spread = (mean - mean.min()) / (mean.max() - mean.min()).clamp(min=1e-12)
    return Entry(
        name=name,
        panel=panel,
        confidence=float(confidence),
        predictions=[(label, float(probability)) for label, probability in predictions],
        image=_encode(image, "JPEG", quality=88, subsampling=0),
        baseline=_encode(baseline, "JPEG", quality=88, subsampling=0),
        maps=_encode(torch.cat([rank(mean).sqrt(), spread, uncertainty]), "PNG", optimize=True),
    )


def shrink(image: Tensor) -> Tensor:
    """Average an image (C, H, W) over areas, so that its longer side is at most 160 pixels."""
    height, width = image.shape[-2:]
    scale = min(1.0, LONGER_SIDE / max(height, width))
    size = max(1, round(scale * height)), max(1, round(scale * width))
    return F.interpolate(image.detach().float().cpu()[None], size, mode="area")[0]


def rank(scores: Tensor) -> Tensor:
    """Share of the pixels that come before a pixel: 0 at the highest score, in [0, 1)."""
    order = scores.flatten().argsort(descending=True, stable=True)
    ranks = torch.empty(len(order))
    ranks[order] = torch.arange(len(order)) / len(order)
    return ranks.view(scores.shape)


def write_gallery(
    entries: Iterable[Path], directory: Path, *, title: str, description: Sequence[str] = ()
) -> Path:
    """Write ``index.html``, ``index_2.html`` and so on: 500 images a page, least confident first.

    Args:
        entries: Files that :meth:`Entry.save` wrote.
        directory: Where to; panels are relative to it. Made if needed.
        title: Heading, plain text.
        description: Lines below it, plain text.

    Returns:
        Path of the first page.

    Raises:
        ValueError: If there is no entry or a file is not one.
    """
    ranked = sorted((float(_read(path)["confidence"]), path) for path in entries)
    if not ranked:
        raise ValueError("Expected at least one explained image for a gallery. Found none.")
    pages = [ranked[start : start + PAGE] for start in range(0, len(ranked), PAGE)]
    before, after = _frame(title, description)
    for number in range(len(pages), 0, -1):  # the first page last: its links then lead somewhere
        data = (_script(path) for _, path in pages[number - 1])
        links = _links(number, len(pages))
        summary = _summary(number, len(ranked))
        head = before.replace("<!--summary-->", summary).replace("<!--pages-->", links)
        foot = after.replace("<!--pages-->", links)
        with (
            whole_file(directory / _page_name(number)) as partial,
            partial.open("w", encoding="utf-8", errors="replace", newline="\n") as file,
        ):
            file.writelines(chain([head], data, [foot]))
    return directory / _page_name(1)


def _page_name(number: int) -> str:
    return "index.html" if number == 1 else f"index_{number}.html"


@cache
def _template() -> str:
    """The page, allowed to run its own script and style and to load nothing but its own data."""
    text = _TEMPLATE.read_text(encoding="utf-8")
    return text.replace("<!--policy-->", content_policy(text))


def _frame(title: str, description: Sequence[str]) -> tuple[str, str]:
    """What comes before and after the images."""
    lines = "\n".join(f"<p>{html.escape(line)}</p>" for line in description)
    text = _template().replace("<!--title-->", html.escape(title))
    before, after = text.replace("<!--description-->", lines).split("<!--entries-->")
    return before, after


def _summary(number: int, images: int) -> str:
    first, last = (number - 1) * PAGE + 1, min(number * PAGE, images)
    if images <= PAGE:
        return "1 image" if images == 1 else f"{images} images"
    return f"Images {first:,} to {last:,} of {images:,}, from the least confident on"


def _links(number: int, pages: int) -> str:
    if pages == 1:
        return ""
    links = (
        f'<a href="{_page_name(n)}"{" aria-current=page" if n == number else ""}>{n}</a>'
        for n in range(1, pages + 1)
    )
    return f'<nav aria-label="Pages">{"".join(links)}</nav>'


def _script(path: Path) -> str:
    """An entry as data in a page: nothing in it can end the element or be read as markup."""
    fields = _read(path)
    fields["panel"] = quote(os.fsencode(fields["panel"]))
    text = json.dumps(fields, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json">{text}</script>\n'


def _read(path: Path) -> dict[str, Any]:
    """Fields of an entry's file, its pictures in base64."""
    try:
        fields = json.loads(path.read_text(encoding="ascii"))
        found = set(fields)
    except (ValueError, TypeError) as error:
        raise ValueError(f"Expected {path} to be a gallery's entry. Found {error}.") from None
    if found != set(Entry.__dataclass_fields__):
        raise ValueError(f"Expected {path} to be a gallery's entry. Found {sorted(found)}.")
    return dict(fields)


def _encode(image: Tensor, kind: str, **options: Any) -> bytes:
    pixels = (255 * image.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    buffer = BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, kind, **options)
    return buffer.getvalue()
