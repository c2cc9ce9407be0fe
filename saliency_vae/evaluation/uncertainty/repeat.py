"""REPEAT (Wickstrøm et al. 2024): is a pixel certainly among the important ones?"""

from torch import Tensor

from saliency_vae.distributions import INCLUSION_FRACTION
from saliency_vae.topk import top_pixels


def repeat_uncertainty(maps: Tensor) -> Tensor:
    """Variance ``p (1 - p)`` of a pixel's place among the most salient, over repeated explanations.

    The importance of a pixel is a Bernoulli variable, and p the share of the repeats in which it
    is important. Here that is being among the top 10 %, as for all other uncertainties; the paper
    takes a threshold of each map.

    Args:
        maps: Maps of the repeats, (repeats, B, H, W); the paper's are those of RELAX.

    Returns:
        Uncertainty, (B, H, W), in [0, 1/4].
    """
    probability = top_pixels(maps, INCLUSION_FRACTION).float().mean(0)
    return probability * (1 - probability)
