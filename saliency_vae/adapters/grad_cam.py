"""An explainer where a CAM of pytorch-grad-cam is expected; that package is not needed."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saliency_vae.adapters.normalised import NormalisedExplainer
from saliency_vae.models import Explainer


class VariationalCAM:
    """Call an explainer as pytorch-grad-cam's classes are called, also in a ``with`` statement.

    Args:
        explainer: Of images in [0, 1].
        mean: If the inputs are normalised, the mean that was subtracted from each channel.
        std: If the inputs are normalised, the std that divided each channel.

    Raises:
        ValueError: If mean or std is not 3 numbers or a std is not positive.
    """

    def __init__(
        self,
        explainer: Explainer,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self._posterior = NormalisedExplainer(explainer, mean, std)

    def __call__(self, input_tensor: Tensor, targets: Any = None) -> NDArray[np.float32]:
        """Give the posterior mean, each image's scaled to its own range.

        Args:
            input_tensor: (B, 3, H, W).
            targets: Accepted and not used: the whole prediction is explained, not one class.

        Returns:
            (B, H, W) in [0, 1], lowest 0 and highest 1; all 0 where a map is constant.
        """
        scores = self._posterior(input_tensor).mean
        low, high = scores.amin((-2, -1), keepdim=True), scores.amax((-2, -1), keepdim=True)
        scaled = torch.where(high > low, (scores - low) / (high - low), 0)
        array: NDArray[np.float32] = scaled.cpu().numpy()
        return array

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: unlike pytorch-grad-cam's classes, there are no hooks to remove."""
