"""An explainer as the ``explain_func`` of Quantus's metrics."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from saliency_vae.adapters.explained import check_explained
from saliency_vae.adapters.normalised import NormalisedExplainer
from saliency_vae.models import Explainer

ExplainFunc = Callable[..., NDArray[np.float32]]


def explain_func(
    explainer: Explainer,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ExplainFunc:
    """Make the function that Quantus's metrics take as ``explain_func``.

    It returns the posterior mean of inputs (B, 3, H, W) as (B, 1, H, W), shifted so that the lowest
    value of each image is 0, because Quantus refuses maps that are negative everywhere. The shift
    keeps the order of the pixels and their differences, but not their sum and sign.

    A universal explainer explains the targets that Quantus passes. Any other explainer always
    explains the decision of its classifier and ignores them, so metrics that change the target
    (RandomLogit) do not apply to it. A model other than the explained one is refused, because
    metrics that randomise the weights of the model (MPRT) would not measure the explainer.

    Args:
        explainer: Explainer of images in [0, 1].
        mean: Mean that was subtracted from each channel of the inputs; None if none was.
        std: Standard deviation that divided each channel of the inputs; None if none did.

    Raises:
        ValueError: If mean or std is not 3 numbers or a std is not positive. The returned function
            raises it for another model, another normalisation, or inputs that are not (B, 3, H, W).
    """
    posterior = NormalisedExplainer(explainer, mean, std)

    def explain(
        model: Any, inputs: NDArray[Any], targets: Any, **settings: Any
    ) -> NDArray[np.float32]:
        if isinstance(model, nn.Module):
            advice = "An explainer attached to this one explains it."
            check_explained(model, explainer, mean, std, advice)
        asks = explainer.is_universal and targets is not None
        asked = _asked(targets) if asks else None
        scores = posterior(torch.from_numpy(np.array(inputs)), asked).mean[:, None]
        shifted: NDArray[np.float32] = (scores - scores.amin((-2, -1), keepdim=True)).cpu().numpy()
        return shifted

    return explain


def _asked(targets: Any) -> object:
    """Convert labels of any type to a target; floats (B,) with whole values are classes."""
    found = np.array(targets)
    if found.dtype == object:
        found = np.array(found.tolist())
    if found.ndim < 2 and found.dtype.kind == "f":
        labels = found.reshape(-1).tolist()
        return [int(label) for label in labels] if all(map(float.is_integer, labels)) else labels
    return torch.as_tensor(found) if found.dtype.kind in "biuf" else found.tolist()
