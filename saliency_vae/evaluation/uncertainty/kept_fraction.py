"""The smallest share of the pixels at which maps keep enough decisions to compare them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from saliency_vae.evaluation.uncertainty.decision_views import DecisionViews
from saliency_vae.topk import top_pixels

TRIED_FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_ENOUGH = 0.5  # share of the decisions that the maps must keep


def kept_fraction(
    views: Sequence[DecisionViews],
    maps: Sequence[Tensor],
    enlarge: Callable[[Tensor], Tensor] = lambda kept: kept,
) -> float | None:
    """Find the smallest share of the pixels at which maps keep at least half of the decisions.

    Args:
        views: Views of batches of images.
        maps: Maps of each batch, (B, h, w).
        enlarge: Function of kept sets (B, h, w) that returns kept pixels of the images, (B, H, W).

    Returns:
        One of :data:`TRIED_FRACTIONS`, or None if the maps keep fewer at all of them.
    """
    for fraction in TRIED_FRACTIONS:
        kept = [
            of_batch.answers(enlarge(top_pixels(scores, fraction))[:, None]).kept
            for of_batch, scores in zip(views, maps, strict=True)
        ]
        if torch.cat(kept).mean() >= _ENOUGH:
            return fraction
    return None
