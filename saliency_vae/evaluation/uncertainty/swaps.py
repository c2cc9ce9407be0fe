"""Swap test: does the decision change less where the uncertainty is high?

The kept view consists of the most salient patches. Patches, of one size except at the border, are
swapped in or out of it one at a time, and the change of the decision's log-odds is compared with
their uncertainty.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.evaluation.uncertainty.decision_views import DecisionViews
from saliency_vae.evaluation.uncertainty.explained_batch import ExplainedBatch
from saliency_vae.evaluation.uncertainty.kept_fraction import kept_fraction
from saliency_vae.evaluation.uncertainty.pixels import pixel_uncertainties
from saliency_vae.metrics import spearman
from saliency_vae.topk import top_pixels

_PIXELS = 8  # along the side of a patch
_PATCHES = 8  # along the shorter side of an image, at least
MOST_SWAPS = 64  # per image
_EFFECT = "effect"


class Swaps(TypedDict):
    """Results of swapping n patches of each of N images.

    Attributes:
        fraction: Share of the patches that the views keep.
        side: Side of a patch, pixels.
        uncertainties: Uncertainty to its values, (N, n), higher where less certain.
        effect: Absolute change of the decision's log-odds when the patch is swapped, nats, (N, n).
    """

    fraction: float
    side: int
    uncertainties: dict[str, Tensor]
    effect: Tensor


def patch_side(height: int, width: int) -> int:
    """Side of a patch: 8 pixels, less where an image would have fewer than 8 patches along a side.

    Example:
        >>> patch_side(128, 128), patch_side(48, 64)
        (8, 6)
    """
    return max(1, min(_PIXELS, min(height, width) // _PATCHES))


@torch.no_grad()
def swap_patches(
    explained: Sequence[ExplainedBatch],
    classifier: FrozenClassifier,
    baseline: str,
    controls: Sequence[Mapping[str, Tensor]],
    *,
    swaps: int = MOST_SWAPS,
    seed: int = 0,
) -> Swaps | None:
    """Swap patches in and out of the kept views, one at a time.

    Args:
        explained: Images with their posteriors.
        classifier: Classifier to explain.
        baseline: Name of the baseline image.
        controls: Control maps of each batch, (B, H, W), by name, high where a swap should hardly
            matter.
        swaps: Number of patches per image, drawn at random.
        seed: Seed of the draw.

    Returns:
        The results, on the CPU; None if the kept views keep fewer than half of the decisions at all
        shares of the patches.
    """
    height, width = explained[0].images.shape[-2:]
    side = patch_side(height, width)
    views = [batch.views(classifier, baseline) for batch in explained]
    maps = [in_patches(batch.posterior.mean, side) for batch in explained]
    fraction = kept_fraction(views, maps, partial(enlarged, height=height, width=width))
    if fraction is None:
        return None
    generator = torch.Generator().manual_seed(seed)
    gathered: dict[str, list[Tensor]] = {}
    for batch, seen, scores, further in zip(explained, views, maps, controls, strict=True):
        orders = [torch.randperm(scores[0].numel(), generator=generator) for _ in scores]
        chosen = torch.stack(orders)[:, :swaps].to(scores.device)
        found = pixel_uncertainties(batch.posterior, fraction, partial(in_patches, side=side))
        found |= {name: in_patches(of_pixels, side) for name, of_pixels in further.items()}
        values = {name: of.flatten(1).gather(1, chosen).cpu() for name, of in found.items()}
        values[_EFFECT] = _effects(seen, top_pixels(scores, fraction), chosen)
        for name, value in values.items():
            gathered.setdefault(name, []).append(value)
    joined = {name: torch.cat(parts) for name, parts in gathered.items()}
    effect = joined.pop(_EFFECT)
    return {"fraction": fraction, "side": side, "uncertainties": joined, "effect": effect}


def _effects(views: DecisionViews, kept: Tensor, chosen: Tensor) -> Tensor:
    """Absolute change of log-odds, (B, n), per swap of a chosen patch (B, n) of kept (B, h, w)."""
    swapped = F.one_hot(chosen, kept[0].numel()).bool().view(*chosen.shape, *kept.shape[1:])
    patches = torch.cat([kept[:, None], kept[:, None] ^ swapped], dim=1)
    height, width = views.images.shape[-2:]
    log_odds = views.answers(enlarged(patches, height, width)).log_odds
    return (log_odds[:, 1:] - log_odds[:, :1]).abs()


def in_patches(maps: Tensor, side: int) -> Tensor:
    """Mean of maps (B, H, W) over patches, smaller ones at the end of a side: (B, h, w)."""
    return F.avg_pool2d(maps[:, None].float(), side, ceil_mode=True)[:, 0]


def enlarged(patches: Tensor, height: int, width: int) -> Tensor:
    """Give pixels the values of their patches, (..., h, w) to (..., height, width)."""
    side = patch_side(height, width)
    rows = patches.repeat_interleave(side, -2)[..., :height, :]
    return rows.repeat_interleave(side, -1)[..., :width]


def matched_spearman(first: Tensor, second: Tensor, matched: Tensor) -> Tensor:
    """Rank correlation within pairs of neighbours in the order of ``matched``, (N, n) each.

    If ``first`` and ``second`` have the same order in a share s of the pairs, the correlation is
    2s - 1. ``matched`` explains hardly any of it.

    Returns:
        Correlation, (N,) float64, in [-1, 1].

    Example:
        >>> first, matched = torch.tensor([[1.0, 0, 3, 2]]), torch.tensor([[0.0, 1, 2, 3]])
        >>> matched_spearman(first, matched, matched)
        tensor([-1.0000], dtype=torch.float64)
    """
    order = matched.argsort(dim=1, descending=True)[:, : first.shape[1] // 2 * 2]
    pairs = [values.gather(1, order).view(-1, 2) for values in (first, second)]
    return spearman(*pairs).view(len(first), -1).mean(1)
