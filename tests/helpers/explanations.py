"""Explanations made by hand, as a network would make them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from saliency_vae.data import Preprocessing
from saliency_vae.visualization import (
    FRACTIONS,
    ClassifiedView,
    Explanation,
    InputImage,
    Measurement,
    Pixels,
    Prediction,
)


def view(image: Tensor, *prediction: tuple[str, float]) -> ClassifiedView:
    return ClassifiedView(image, torch.tensor([share for _, share in prediction]), prediction)


def measured(fraction: float = 0.1, sufficiency: float = 0.5) -> Measurement:
    """Measured values of a decision of probability .75, of which leaving out takes .25."""
    return Measurement(fraction, 0.75, sufficiency, 0.5, decision_stays=True, decision_lost=False)


def source(name: str, pixels: Pixels) -> InputImage:
    """An image that is not preprocessed, (3, H, W)."""
    size = pixels.shape[1], pixels.shape[2]
    return InputImage(name, pixels, pixels, size, Preprocessing(), Path(name))


def explanation(
    of: InputImage,
    maps: Tensor,
    *,
    image: Tensor | None = None,
    kept: Tensor | None = None,
    prediction: Prediction = (("cat", 0.75), ("dog", 0.25)),
    sufficiency: Sequence[float] = (0.5,) * len(FRACTIONS),
) -> Explanation:
    """An explanation of maps (3, h, w), its views black by default."""
    black = torch.zeros(3, *maps.shape[-2:])
    curve = [measured(*one) for one in zip(FRACTIONS, sufficiency, strict=True)]
    return Explanation(
        source=of,
        original=view(black if image is None else image, *prediction),
        kept=view(black if kept is None else kept, *prediction),
        left_out=view(black, *prediction),
        baseline=black,
        maps=maps,
        measured=curve[FRACTIONS.index(0.1)],
        curve=curve,
    )
