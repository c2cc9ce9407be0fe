"""An explainer as an attribution method of Captum: for its noise tunnel, metrics and pictures."""

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
    """Attribute with an explainer's posterior, the same in every channel.

    Args:
        explainer: Of images in [0, 1].
        forward_func: The classifier, which Captum keeps with a method; the explainer has its own.
        quantity: What is attributed to a pixel: the posterior's mean or standard deviation, or the
            probability in [0, 1] that it is among the top 10 % of its image.
        mean: If the inputs are normalised, the mean that was subtracted from each channel.
        std: If the inputs are normalised, the std that divided each channel.

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

    @torch.no_grad()  # also gives the __wrapped__ that NoiseTunnel calls, as Captum's own have
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Attribute to every value of the inputs; tensor in, tensor out, tuple in, tuple out.

        Args:
            inputs: Images (B, 3, H, W).
            target: Accepted and not used: the whole prediction is explained, not one class.
            additional_forward_args: Accepted and not used.

        Returns:
            Attributions, of the inputs' shape, type and device.
        """
        if isinstance(inputs, tuple):
            return tuple(self._attribution(images) for images in inputs)
        return self._attribution(inputs)

    def _attribution(self, images: Tensor) -> Tensor:
        saliency = self._map(images).to(images)
        return saliency.unsqueeze(1).expand_as(images).contiguous()

    def _map(self, images: Tensor) -> Tensor:
        posterior = self._posterior(images)
        if self.quantity == "inclusion_probability":
            return posterior.inclusion_probability(INCLUSION_FRACTION)
        return posterior.mean if self.quantity == "mean" else posterior.stddev
