"""REPEAT (Wickstrøm et al. 2024): is a pixel certainly among the important ones?"""

from collections.abc import Callable

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.distributions import INCLUSION_FRACTION
from saliency_vae.evaluation.uncertainty.changed_pixels import top_pixels


class Repeat:
    """Variance ``p (1 - p)`` of a pixel's place among the most salient, over repeated explanations.

    The importance of a pixel is a Bernoulli variable, and p the share of the repeats in which it
    is important. Here that is being among the top 10 %, as for all other uncertainties; the paper
    takes a threshold of each map.

    Args:
        explain: Function of a seed that makes a stochastic method; the paper repeats RELAX.
        repeats: Number of explanations.
    """

    def __init__(self, explain: Callable[[int], Method], repeats: int = 10) -> None:
        self.explain = explain
        self.repeats = repeats

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Uncertainty, see :class:`saliency_vae.baselines.Method`: (B, H, W), in [0, 1/4]."""
        maps = torch.stack([self.explain(seed)(batch, classifier) for seed in range(self.repeats)])
        probability = top_pixels(maps, INCLUSION_FRACTION).float().mean(0)
        return probability * (1 - probability)
