"""An explainer of images that are normalised for the user's own model."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.models import Explainer
from saliency_vae.runtime.autograd import evaluating

_MARGIN = 0.25  # mean distance from [0, 1]; a normalised photograph has about .5, noise far less


class NormalisedExplainer:
    """Explains normalised images, in eval mode and without gradients.

    Args:
        explainer: Explainer of images in [0, 1]; each call restores the modes of its modules.
        mean: Mean that was subtracted from each of the 3 channels; None for 0.
        std: Standard deviation that then divided each channel; None for 1.

    Raises:
        ValueError: If mean or std is not 3 numbers or a std is not positive.
    """

    def __init__(
        self, explainer: Explainer, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> None:
        mean = (0.0, 0.0, 0.0) if mean is None else mean
        std = (1.0, 1.0, 1.0) if std is None else std
        if {np.shape(mean), np.shape(std)} != {(3,)} or min(std) <= 0:
            raise ValueError(
                f"Expected mean and std of 3 numbers, std > 0. Found {mean} and {std}."
            )
        self.explainer = explainer
        self._mean = torch.tensor(tuple(mean))[:, None, None]
        self._std = torch.tensor(tuple(std))[:, None, None]

    @torch.no_grad()
    def __call__(self, inputs: Tensor, target: object = None) -> SaliencyPosterior:
        """Explain normalised images.

        Args:
            inputs: Images (B, 3, H, W), H, W >= 16, of any device and precision.
            target: Target for a universal explainer; None for the decision.

        Returns:
            Posterior q(s|x), on the explainer's device.

        Raises:
            ValueError: If the inputs are not (B, 3, H, W) of floating point, or not in [0, 1] once
                the normalisation is undone; or if the explainer cannot explain the target.
        """
        if inputs.ndim != 4 or inputs.shape[1] != 3 or not inputs.is_floating_point():
            raise ValueError(  # one channel would broadcast, dark uint8 would pass
                "Expected inputs (B, 3, H, W) of floating point. "
                f"Found {tuple(inputs.shape)} of {inputs.dtype}."
            )
        inputs = inputs.to(next(self.explainer.parameters()))
        with evaluating(self.explainer):
            images = inputs * self._std.to(inputs) + self._mean.to(inputs)
            self._check_range(images)
            signals = self.explainer.checked_signals(images, target)
            return self.explainer.encode(images, signals=signals)

    def _check_range(self, images: Tensor) -> None:
        """Refuse images with another normalisation, but not those with noise, as metrics add."""
        outside = (images - images.clamp(0, 1)).abs().mean() if images.numel() else 0
        if not outside <= _MARGIN:  # NaN too
            low, high = images.aminmax()
            raise ValueError(
                "Expected inputs whose normalisation mean and std undo, to images in [0, 1]. Found "
                f"images from {low:.3g} to {high:.3g}, with mean={_listed(self._mean)} and "
                f"std={_listed(self._std)}."
            )


def _listed(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.flatten().tolist()]
