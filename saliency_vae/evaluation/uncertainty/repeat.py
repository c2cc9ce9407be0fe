"""REPEAT (Wickstrøm et al. 2024): how uncertain it is whether a pixel is important."""

from torch import Tensor

from saliency_vae.distributions import INCLUSION_FRACTION
from saliency_vae.topk import top_pixels


def repeat_uncertainty(maps: Tensor) -> Tensor:
    """Variance ``p (1 - p)`` of whether a pixel is important, over repeated explanations.

    Importance is a Bernoulli variable, and p is the share of the repeats in which the pixel is
    important. Here important means among the top 10 %, as for all other uncertainties; the paper
    thresholds each map.

    Args:
        maps: Maps of the repeats, (repeats, B, H, W); the paper uses RELAX.

    Returns:
        Uncertainty, (B, H, W), in [0, 1/4].
    """
    probability = top_pixels(maps, INCLUSION_FRACTION).float().mean(0)
    return probability * (1 - probability)
