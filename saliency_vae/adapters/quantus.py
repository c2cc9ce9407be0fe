"""An explainer as the ``explain_func`` of Quantus's metrics."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saliency_vae.adapters.normalised import NormalisedExplainer
from saliency_vae.models import Explainer

ExplainFunc = Callable[..., NDArray[np.float32]]


def explain_func(
    explainer: Explainer,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ExplainFunc:
    """Make what Quantus's metrics take as ``explain_func``.

    It gives the posterior mean of inputs (B, 3, H, W) as (B, 1, H, W), shifted so that the lowest
    value of each image is 0: Quantus refuses maps that are negative everywhere. The order of the
    pixels and their differences are kept, their sum and sign are not.

    Neither the model nor the targets that Quantus passes are used: the explainer explains the whole
    prediction of the classifier that it was trained for. Metrics that randomise the model's weights
    or change its target (MPRT, RandomLogit) therefore say nothing about it.

    Args:
        explainer: Of images in [0, 1].
        mean: If the inputs are normalised, the mean that was subtracted from each channel.
        std: If the inputs are normalised, the std that divided each channel.

    Raises:
        ValueError: If mean or std is not 3 numbers or a std is not positive.
    """
    posterior = NormalisedExplainer(explainer, mean, std)

    def explain(
        model: Any, inputs: NDArray[Any], targets: Any, **settings: Any
    ) -> NDArray[np.float32]:
        scores = posterior(torch.from_numpy(np.array(inputs))).mean[:, None]
        shifted: NDArray[np.float32] = (scores - scores.amin((-2, -1), keepdim=True)).cpu().numpy()
        return shifted

    return explain
