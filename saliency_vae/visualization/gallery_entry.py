"""What the gallery shows of one image, as JSON that is kept until the gallery is written."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.visualization.explanation import UNLIKE, Explanation, InputImage
from saliency_vae.visualization.measurement import Measurement
from saliency_vae.visualization.overlay import encoded, is_finite, limits, rescaled, without_border

LONGER_SIDE = 160  # most pixels on the longer side of the image and maps in the gallery

Scale = tuple[float, float]


@dataclass(frozen=True)
class Entry:
    """What the gallery shows of one image.

    Attributes:
        name: Name of the image, as shown.
        file: Path of the image itself relative to the gallery, ``""`` if it has no file.
        target: Target and its probability, ``""`` for the decision.
        unlike: Note that it is unlike the training images, ``""`` if it is not.
        fraction: Share of the pixels kept; pages are sorted by the sufficiency at this fraction.
        sufficiency: Sufficiency at this fraction, see :class:`Measurement`.
        curve: Fraction, sufficiency and necessity of each measurement, by rising fraction.
        samples: Sufficiency and necessity of each sampled map at ``fraction``.
        predictions: Class names and probabilities of the image, most probable first.
        size: Width and height of the original image.
        view: Part that the classifier saw: left, top, width and height as fractions of the image.
        whole: The whole image as a panel shows it, JPEG; empty if it was not read.
        image: What the classifier saw as JPEG, at most 160 pixels on the longer side.
        baseline: Baseline image as JPEG of the same size.
        maps: Maps by name as grey PNG of the same size, transparent where they have no value.
            ``rank`` is the square root of the rank, which is 0 at the most salient pixel and
            reaches 1 past the least, so that small fractions are resolved finely. ``mean``,
            ``stddev`` (without its border), ``inclusion`` (probability, at ``fraction``),
            ``sample 1`` and so on span their scale from its lowest to its highest value.
        scales: Lowest and highest value of the scale of each map except ``rank``.
    """

    name: str
    file: str
    target: str
    unlike: str
    fraction: float
    sufficiency: float
    curve: list[tuple[float, float, float]]
    samples: list[tuple[float, float]]
    predictions: list[tuple[str, float]]
    size: tuple[int, int]
    view: tuple[float, float, float, float]
    whole: bytes
    image: bytes
    baseline: bytes
    maps: dict[str, bytes]
    scales: dict[str, Scale]

    @classmethod
    def of(cls, explanation: Explanation, *, file: str = "") -> Self:
        """Make the entry of an explanation.

        Args:
            explanation: Explanation of the image.
            file: Path of the image itself relative to the gallery.

        Raises:
            ValueError: If the sizes differ, a number is not finite or the target is a score.
        """
        _check(explanation)
        assert explanation.sufficiency is not None
        source = explanation.source
        height, width = explanation.maps.shape[1:]
        maps, scales = _maps(explanation)
        return cls(
            name=explanation.name,
            file=file,
            target=explanation.asked,
            unlike=UNLIKE if explanation.out_of_depth else "",
            fraction=explanation.fraction,
            sufficiency=explanation.sufficiency,
            curve=_numbers(explanation.curve),
            samples=[
                of_sample[1:] for of_sample in _numbers(s.measured for s in explanation.drawn)
            ],
            predictions=[(label, float(share)) for label, share in explanation.original.prediction],
            size=(source.size[1], source.size[0]),
            view=source.preprocessing.view(source.size, (height, width)),
            whole=_whole(source),
            image=_jpeg(shrink(explanation.original.image)),
            baseline=_jpeg(shrink(explanation.baseline)),
            maps=maps,
            scales=scales,
        )

    def to_json(self) -> str:
        """Write the entry as JSON in ASCII, its pictures in base64.

        Raises:
            ValueError: If a number is not finite.
        """
        return json.dumps(vars(self), allow_nan=False, default=_base64)


def shrink(image: Tensor) -> Tensor:
    """Shrink an image (C, H, W) by area averaging, to a longer side of at most 160 pixels."""
    height, width = image.shape[-2:]
    scale = min(1.0, LONGER_SIDE / max(height, width))
    size = max(1, round(scale * height)), max(1, round(scale * width))
    return F.interpolate(image.detach().float().cpu()[None], size, mode="area")[0]


def rank(scores: Tensor) -> Tensor:
    """Compute the rank of each pixel in [0, 1): the share of pixels that precede it in order."""
    order = scores.flatten().argsort(descending=True, stable=True)
    ranks = torch.empty(len(order))
    ranks[order] = torch.arange(len(order)) / len(order)
    return ranks.view(scores.shape)


def _check(explanation: Explanation) -> None:
    image, baseline = explanation.original.image, explanation.baseline
    sizes = {tuple(tensor.shape[-2:]) for tensor in (image, baseline, explanation.maps)}
    if len(sizes) > 1:
        raise ValueError(f"Expected image, baseline and maps of one size. Found {sorted(sizes)}.")
    if not explanation.is_finite():
        name = explanation.name
        raise ValueError(f"Expected a finite explanation of {name}. Found NaN or infinity.")
    if explanation.sufficiency is None:
        raise ValueError(
            f"Expected a class as target, for a gallery. Found {explanation.target}, a score."
        )


def _numbers(measured: Iterable[Measurement]) -> list[tuple[float, float, float]]:
    """Fraction, sufficiency and necessity of each measurement of a class."""
    return [
        (one.fraction, one.sufficiency, one.necessity)
        for one in measured
        if one.sufficiency is not None and one.necessity is not None
    ]


def _maps(explanation: Explanation) -> tuple[dict[str, bytes], dict[str, Scale]]:
    """Encode the maps of an explanation; return them with their scales."""
    mean, stddev, inclusion = shrink(explanation.maps)
    shown = {"mean": mean, "stddev": without_border(stddev), "inclusion": inclusion}
    scales = {"mean": limits(mean), "stddev": (0.0, limits(shown["stddev"])[1])}
    scales["inclusion"] = (0.0, 1.0)
    if explanation.drawn:
        samples = shrink(torch.stack([sample.scores for sample in explanation.drawn]))
        named = {f"sample {number}": sample for number, sample in enumerate(samples, start=1)}
        scales |= dict.fromkeys(named, limits(samples))  # one scale, so that they can be compared
        shown |= named
    maps = {name: _grey(rescaled(values, scales[name])) for name, values in shown.items()}
    return {"rank": _grey(rank(mean).sqrt()), **maps}, scales


def _whole(source: InputImage) -> bytes:
    """Encode the image at the size of a panel's tile; empty if it was not read at that size."""
    if not source.shown.size:
        return b""
    picture = Image.fromarray(np.ascontiguousarray(source.shown.transpose(1, 2, 0)))
    return encoded(picture, "JPEG", quality=80)


def _jpeg(image: Tensor) -> bytes:
    """Encode an image (3, H, W) in [0, 1]."""
    pixels = _bytes(image).permute(1, 2, 0).contiguous()
    return encoded(Image.fromarray(pixels.numpy()), "JPEG", quality=88, subsampling=0)


def _grey(values: Tensor) -> bytes:
    """Encode a map (H, W) in [0, 1], transparent where it is NaN."""
    picture = Image.fromarray(_bytes(values.nan_to_num()).numpy())
    if not is_finite(values):
        picture.putalpha(Image.fromarray(_bytes(values.isfinite().float()).numpy()))
    # Level 9 would take up to ten times as long, for a few per cent of the bytes.
    return encoded(picture, "PNG", compress_level=4)


def _bytes(values: Tensor) -> Tensor:
    return (255 * values.clamp(0, 1)).round().to(torch.uint8)


def _base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
