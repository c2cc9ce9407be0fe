"""What the gallery shows of one image: a small JSON file, written as soon as it is explained."""

import base64
import json
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.runtime.atomic_file import write_whole
from saliency_vae.visualization.explanation import Explanation
from saliency_vae.visualization.overlay import min_max

LONGER_SIDE = 160  # most pixels of a picture in the gallery
_PICTURES = ("image", "baseline", "maps")


@dataclass(frozen=True)
class Entry:
    """What the gallery shows of one image.

    Attributes:
        name: Name of the image, as shown.
        panel: Path of the image's panel relative to the gallery, ``""`` if there is none.
        target: What was asked about, ``""`` for the decision.
        fraction: Share of the pixels that was asked for; the pages sort by sufficiency there.
        sufficiency: Sufficiency at this fraction, see :mod:`saliency_vae.visualization.measurement`.
        curve: Fraction, sufficiency and necessity of each measurement, by rising fraction.
        predictions: Class names and probabilities of the image, most probable first.
        image: Image as JPEG, at most 160 pixels on the longer side.
        baseline: Baseline image as JPEG of the same size.
        maps: Maps as PNG of the same size. Red: ``255 sqrt(rank)``, where rank is 0 at the most
            salient pixel and 1 past the least, so that small fractions are resolved finely. Green:
            posterior mean from its lowest to its highest value. Blue: uncertainty ``4 P(1-P)``,
            where P is the probability that the pixel is among the top 10 %.
    """

    name: str
    panel: str
    target: str
    fraction: float
    sufficiency: float
    curve: list[tuple[float, float, float]]
    predictions: list[tuple[str, float]]
    image: bytes
    baseline: bytes
    maps: bytes

    @classmethod
    def of(cls, explanation: Explanation, *, panel: str = "") -> Self:
        """Make the entry of an explanation.

        Args:
            explanation: Explanation of the image.
            panel: Path of the image's panel relative to the gallery.

        Raises:
            ValueError: If the sizes differ, a number is not finite or the target is a score.
        """
        name = explanation.name
        image, baseline = explanation.original.image, explanation.baseline
        mean, inclusion = explanation.maps[0], explanation.gallery_inclusion
        sizes = {tuple(tensor.shape[-2:]) for tensor in (image, baseline, mean, inclusion)}
        if len(sizes) > 1:
            raise ValueError(
                f"Expected image, baseline and maps of one size. Found {sorted(sizes)}."
            )
        if not explanation.is_finite():
            raise ValueError(f"Expected a finite explanation of {name}. Found NaN or infinity.")
        if explanation.sufficiency is None:
            raise ValueError(
                f"Expected a class as target, for a gallery. Found {explanation.target}, a score."
            )
        mean, uncertainty = shrink(mean[None]), shrink((4 * inclusion * (1 - inclusion))[None])
        maps = torch.cat([rank(mean).sqrt(), min_max(mean), uncertainty])
        return cls(
            name=name,
            panel=panel,
            target=explanation.target or "",
            fraction=explanation.fraction,
            sufficiency=explanation.sufficiency,
            curve=[
                (one.fraction, one.sufficiency, one.necessity)
                for one in explanation.curve
                if one.sufficiency is not None and one.necessity is not None
            ],
            predictions=[(label, float(share)) for label, share in explanation.original.prediction],
            image=_encode(shrink(image), "JPEG", quality=88, subsampling=0),
            baseline=_encode(shrink(baseline), "JPEG", quality=88, subsampling=0),
            maps=_encode(maps, "PNG", optimize=True),
        )

    def save(self, path: Path) -> None:
        """Write the entry as JSON: whole or not at all."""
        fields = asdict(self)
        fields |= {name: base64.b64encode(fields[name]).decode() for name in _PICTURES}
        write_whole(path, json.dumps(fields, allow_nan=False))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: If the file is not an entry.
        """
        fields = read_fields(path)
        pictures = {name: base64.b64decode(fields[name]) for name in _PICTURES}
        predictions = [(label, probability) for label, probability in fields["predictions"]]
        curve = [tuple(row) for row in fields["curve"]]
        return cls(**fields | pictures | {"predictions": predictions, "curve": curve})


def read_fields(path: Path) -> dict[str, Any]:
    """Read the fields of an entry's file, its pictures in base64.

    Raises:
        ValueError: If the file is not an entry.
    """
    try:
        fields = json.loads(path.read_text(encoding="ascii"))
        found = set(fields)
    except (ValueError, TypeError) as error:
        raise ValueError(f"Expected {path} to be a gallery's entry. Found {error}.") from None
    if found != set(Entry.__dataclass_fields__):
        raise ValueError(f"Expected {path} to be a gallery's entry. Found {sorted(found)}.")
    return dict(fields)


def shrink(image: Tensor) -> Tensor:
    """Average an image (C, H, W) over areas, so that its longer side is at most 160 pixels."""
    height, width = image.shape[-2:]
    scale = min(1.0, LONGER_SIDE / max(height, width))
    size = max(1, round(scale * height)), max(1, round(scale * width))
    return F.interpolate(image.detach().float().cpu()[None], size, mode="area")[0]


def rank(scores: Tensor) -> Tensor:
    """Compute the share of the pixels that precede each pixel: 0 at the highest score, < 1."""
    order = scores.flatten().argsort(descending=True, stable=True)
    ranks = torch.empty(len(order))
    ranks[order] = torch.arange(len(order)) / len(order)
    return ranks.view(scores.shape)


def _encode(image: Tensor, kind: str, **options: Any) -> bytes:
    pixels = (255 * image.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    buffer = BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, kind, **options)
    return buffer.getvalue()
