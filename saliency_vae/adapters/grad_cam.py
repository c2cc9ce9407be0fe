"""An explainer in place of a CAM of pytorch-grad-cam; that package need not be installed."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from saliency_vae.adapters.normalised import NormalisedExplainer
from saliency_vae.metrics import min_max
from saliency_vae.models import Explainer


class VariationalCAM:
    """An explainer that is called like pytorch-grad-cam's classes, also in a ``with`` statement.

    Args:
        explainer: Explainer of images in [0, 1].
        mean: Mean that was subtracted from each channel of the inputs; None if none was.
        std: Standard deviation that divided each channel of the inputs; None if none did.

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
        """Compute the posterior mean, scaled to [0, 1] for each image.

        Args:
            input_tensor: Images (B, 3, H, W).
            targets: Accepted and ignored: the whole prediction is explained, not one class.

        Returns:
            Maps (B, H, W) whose lowest value is 0 and highest value 1; 0 in a constant map.
        """
        array: NDArray[np.float32] = min_max(self._posterior(input_tensor).mean).cpu().numpy()
        return array

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: unlike pytorch-grad-cam's classes, there are no hooks to remove."""
