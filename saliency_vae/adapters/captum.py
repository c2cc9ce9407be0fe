"""An explainer as an attribution method of Captum, for its noise tunnel, metrics and pictures."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from saliency_vae.adapters.normalised import NormalisedExplainer
from saliency_vae.distributions import INCLUSION_FRACTION
from saliency_vae.models import Explainer

try:
    from captum.attr import Attribution
except ImportError as error:
    raise ImportError(
        "Expected Captum to be installed: pip install 'saliency-vae[captum]'. "
        f"Found {type(error).__name__}: {error}."
    ) from None

Quantity = Literal["mean", "stddev", "inclusion_probability"]


class VariationalSaliencyAttribution(Attribution):  # type: ignore[misc]  # Captum has no types
    """Attributes an explainer's posterior to the pixels, the same in every channel.

    Args:
        explainer: Explainer of images in [0, 1].
        forward_func: Classifier, which Captum keeps with a method and the explainer does not need.
        quantity: Quantity attributed to a pixel: the posterior's mean or standard deviation, or the
            probability in [0, 1] that the pixel is among the top 10 % of its image.
        mean: Mean that was subtracted from each channel of the inputs; None if none was.
        std: Standard deviation that divided each channel of the inputs; None if none did.

    Raises:
        ValueError: If quantity is unknown, mean or std is not 3 numbers or a std is not positive.
    """

    def __init__(
        self,
        explainer: Explainer,
        forward_func: Callable[..., Any] | None = None,
        *,
        quantity: Quantity = "mean",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(forward_func)
        if quantity not in get_args(Quantity):
            raise ValueError(
                f"Expected quantity {', '.join(get_args(Quantity))}. Found {quantity!r}."
            )
        self.quantity = quantity
        self._posterior = NormalisedExplainer(explainer, mean, std)

    @torch.no_grad()  # which also adds the __wrapped__ that Captum's NoiseTunnel calls
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Attribute to every value of the inputs; tensor in, tensor out, tuple in, tuple out.

        Args:
            inputs: Images (B, 3, H, W).
            target: What a universal explainer is asked about; None for the decision.
            additional_forward_args: Accepted and ignored.

        Returns:
            Attributions of the inputs' shape, type and device.

        Raises:
            ValueError: If a target is given that the explainer cannot be asked about.
        """
        if isinstance(inputs, tuple):
            return tuple(self._attribution(images, target) for images in inputs)
        return self._attribution(inputs, target)

    def _attribution(self, images: Tensor, target: object) -> Tensor:
        saliency = self._map(images, target).to(images)
        return saliency.unsqueeze(1).expand_as(images).contiguous()

    def _map(self, images: Tensor, target: object) -> Tensor:
        posterior = self._posterior(images, target)
        if self.quantity == "inclusion_probability":
            return posterior.inclusion_probability(INCLUSION_FRACTION)
        return posterior.mean if self.quantity == "mean" else posterior.stddev
