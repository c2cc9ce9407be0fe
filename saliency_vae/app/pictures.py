"""Pictures of an explanation for the page: tiles of the classifier's view, and probability bars."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.app.answers import OtherMap
from saliency_vae.data import TooLargeError
from saliency_vae.perturbations import perturb
from saliency_vae.runtime.text import as_percent
from saliency_vae.topk import top_pixels
from saliency_vae.visualization import (
    Explanation,
    Measurement,
    Pixels,
    as_rgb,
    data_url,
    encoded,
    limits,
)
from saliency_vae.visualization.overlay import overlay

MAPS = {
    "mean": "Brighter is more salient: the mean of the distribution over saliency maps.",
    "inclusion probability": "Of being among the pixels that are kept: sure near 0 and 1.",
    "uncertainty": "Standard deviation of each pixel's saliency.",
    "samples": "Alternatives drawn from the distribution, row by row.",
}
_SIDE = 480  # pixels of a tile's longer side, about
_MOST_ENLARGED = 8
_GAP = 6  # pixels between the samples


def photograph(explanation: Explanation) -> Tensor:
    """Part of the photograph that the classifier sees, at a finer resolution: (3, H, W) uint8."""
    source = explanation.source
    times = _times(explanation)
    given = source.preprocessing
    enlarged = _enlarged(torch.from_numpy(source.pixels), times)
    if given.resize_size is None or given.crop_size is None or times == 1:
        return enlarged
    resize, (height, width) = given.resize_size, given.crop_size
    larger = resize * times if isinstance(resize, int) else (resize[0] * times, resize[1] * times)
    finer = replace(given, resize_size=larger, crop_size=(height * times, width * times))
    try:
        return finer(Image.fromarray(explanation.image))
    except TooLargeError:  # long and narrow
        return enlarged


def legend(explanation: Explanation | None, kind: str) -> str:
    """Say what a map shows and, of samples, what was measured."""
    if kind != "samples" or explanation is None or not explanation.drawn:
        return MAPS[kind]
    samples = zip(explanation.drawn, explanation.overlaps, strict=True)
    rows = [
        f"{number}. {sample.measured}, {100 * overlap:.0f} % of its kept pixels are the mean's"
        for number, (sample, overlap) in enumerate(samples, start=1)
    ]
    stay = 100 * (explanation.samples_stay or 0.0)
    said = f"{MAPS[kind]} Of all maps drawn, {stay:.0f} % keep the decision."
    return "\n".join([said, "", *rows])


def map_tile(explanation: Explanation, kind: str, shown: Tensor) -> Pixels:
    """Lay a map over the photograph.

    Args:
        explanation: Explanation of the photograph.
        kind: One of ``MAPS``.
        shown: Result of :func:`photograph`.
    """
    mean, stddev, inclusion = explanation.maps
    if kind == "samples":
        return _samples(explanation, shown)
    if kind == "uncertainty":
        return laid_over(shown, stddev, colours="magma", scale=(0.0, limits(stddev)[1]))
    if kind == "inclusion probability":
        return laid_over(shown, inclusion, colours="cividis", scale=(0.0, 1.0))
    return laid_over(shown, mean)


def laid_over(
    shown: Tensor,
    values: Tensor,
    *,
    colours: str = "viridis",
    scale: tuple[float, float] | None = None,
) -> Pixels:
    """Lay a map (h, w) over a photograph (3, H, W), enlarged bilinearly."""
    values = F.interpolate(values[None, None].float(), shown.shape[-2:], mode="bilinear")[0, 0]
    return overlay(shown, values, colours=colours, scale=scale or limits(values))


def view_tiles(explanation: Explanation, shown: Tensor) -> tuple[Pixels, Pixels]:
    """Draw the kept and the left-out view at the resolution of the photograph shown."""
    size = shown.shape[-2:]
    mask = top_pixels(explanation.maps[0], explanation.fraction).float()
    mask = F.interpolate(mask[None, None], size, mode="nearest")[0]
    baseline = F.interpolate(explanation.baseline[None].float(), size, mode="bilinear")
    image = shown[None].float() / 255
    kept, left_out = (as_rgb(perturb(image, m, baseline)[0]) for m in (mask, 1 - mask))
    return kept, left_out


def bars(explanation: Explanation) -> str:
    """Write the measured probabilities as bars, in HTML."""
    measured = explanation.measured
    label, probability = explanation.prediction[0]
    if explanation.target is not None:
        label = explanation.target
    elif not math.isclose(probability, measured.on_image, abs_tol=1e-3):
        label = "the decision on all labels"  # they are independent, and decided together
    share, drop = f"{100 * measured.fraction:.3g} %", (measured.necessity or 0.0) * 100
    rows = (
        ("the whole photograph", measured.on_image, ""),
        (f"the kept {share} alone", measured.on_kept_view, "sufficiency"),
        (
            "all but these pixels",
            measured.on_left_out_view,
            f"necessity: {'falls' if drop >= 0 else 'rises'} by {abs(drop):.0f} points",
        ),
    )
    lines = "".join(_bar(*row) for row in rows)
    return f'<div class="measured"><h3>Probability of “{escape(label)}” on</h3>{lines}</div>'


def beside(explanation: Explanation, others: Sequence[OtherMap], shown: Tensor) -> str:
    """Write the maps of all methods side by side, in HTML.

    Args:
        explanation: Explanation of the photograph.
        others: Maps of other methods, or why there is none.
        shown: Result of :func:`photograph`.
    """
    figures = [
        _figure("this explainer", map_tile(explanation, "mean", shown), explanation.measured)
    ]
    figures += [
        _figure(other.method, laid_over(shown, other.map), other.measured)
        for other in others
        if other.map is not None
    ]
    reasons = [
        f"<p><b>{other.method}</b>: {escape(other.reason)}</p>" for other in others if other.reason
    ]
    return f'<div class="beside">{"".join(figures)}</div>{"".join(reasons)}'


def _figure(name: str, pixels: Pixels, measured: Measurement | None) -> str:
    source = data_url("image/png", encoded(Image.fromarray(pixels), "PNG"))
    return (
        f'<figure><img alt="map of {name}" src="{source}"><figcaption><b>{name}</b><br>{measured}'
        "</figcaption></figure>"
    )


def _bar(name: str, probability: float, note: str) -> str:
    return (
        f'<div class="row"><span class="name">{name}</span>'
        '<span class="track">'
        f'<span class="fill" style="width:{100 * probability:.1f}%"></span></span>'
        f'<span class="value">{escape(as_percent(probability))}</span>'
        f'<span class="note">{note}</span></div>'
    )


def _times(explanation: Explanation) -> int:
    longer: int = max(explanation.source.pixels.shape[1:])
    return min(max(1, math.ceil(_SIDE / longer)), _MOST_ENLARGED)


def _enlarged(pixels: Tensor, times: int) -> Tensor:
    return pixels.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)


def _samples(explanation: Explanation, shown: Tensor) -> Pixels:
    """Samples side by side, on one scale, in a tile of the size of one map."""
    height, width = shown.shape[-2:]
    number = len(explanation.drawn)
    columns = math.ceil(math.sqrt(number))
    size = ((height - _GAP) // columns, (width - _GAP) // columns)
    small = F.interpolate(shown[None].float(), size, mode="area")[0].to(torch.uint8)
    scores = torch.stack([sample.scores for sample in explanation.drawn])
    tiles = [laid_over(small, one, scale=limits(scores)) for one in scores]
    rows = [
        np.concatenate(list(_apart(tiles[i : i + columns], columns, 1)), axis=1)
        for i in range(0, number, columns)
    ]
    sheet: Pixels = np.concatenate(list(_apart(rows, len(rows), 0)), axis=0)
    return sheet


def _apart(tiles: list[Pixels], columns: int, axis: int) -> Iterator[Pixels]:
    """Yield tiles with white gaps between them, and white tiles for missing ones."""
    shape = list(tiles[0].shape)
    shape[axis] = _GAP
    for place in range(columns):
        if place:
            yield np.full(shape, 255, dtype=np.uint8)
        yield tiles[place] if place < len(tiles) else np.full_like(tiles[0], 255)
