"""An explainer as a Captum attribution method, for Captum's noise tunnel, metrics and plots."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from saliency_vae.adapters.explained import check_explained
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

Quantity = Literal["mean", "stddev", "inclusion_probability", "excess"]


class VariationalSaliencyAttribution(Attribution):  # type: ignore[misc]  # Captum has no types
    """Attribution of each pixel from an explainer's posterior, the same in every channel.

    Only the order of the posterior mean has a meaning, not its zero. Captum's
    ``visualize_image_attr(..., sign="all")`` would paint about half of its pixels as evidence
    against the class. Draw ``quantity="excess"`` with it, or ``mean - mean.min()`` with
    ``sign="absolute_value"``.

    Args:
        explainer: Explainer of images in [0, 1].
        forward_func: Classifier, which Captum stores and the explainer does not need; a module
            must be the network that the explainer explains.
        quantity: Attribution of a pixel: the posterior's mean or standard deviation; the
            probability in [0, 1] that the pixel is among the top 10 % of its image; or the
            ``excess`` of this probability over .1, its value for a pixel drawn at random. The
            excess is in [-.1, .9], and 0 on average over an image.
        mean: Mean that was subtracted from each channel of the inputs; None if none was.
        std: Standard deviation that divided each channel of the inputs; None if none did.

    Raises:
        ValueError: If quantity is unknown, mean or std is not 3 numbers or a std is not positive,
            or forward_func is another network or takes images with another normalisation.
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
        if isinstance(forward_func, nn.Module):
            advice = "Leave forward_func out to attribute all the same."
            check_explained(forward_func, explainer, mean, std, advice)

    @torch.no_grad()  # which also adds the __wrapped__ that Captum's NoiseTunnel calls
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Compute the attributions of the inputs: a tensor for a tensor, a tuple for a tuple.

        Args:
            inputs: Images (B, 3, H, W).
            target: Target for a universal explainer, also in Captum's forms of one class for each
                image: a list of tuples, or a tensor (B, 1); None for the decision.
            additional_forward_args: Accepted and ignored.

        Returns:
            Attributions of the inputs' shape, type and device.

        Raises:
            ValueError: If a target is given that the explainer cannot explain.
        """
        if isinstance(inputs, tuple):
            return tuple(self._attribution(images, target) for images in inputs)
        return self._attribution(inputs, target)

    def _attribution(self, images: Tensor, target: object) -> Tensor:
        saliency = self._map(images, target).to(images)
        return saliency.unsqueeze(1).expand_as(images).contiguous()

    def _map(self, images: Tensor, target: object) -> Tensor:
        posterior = self._posterior(images, _flattened(target))
        if self.quantity in ("inclusion_probability", "excess"):
            chance = INCLUSION_FRACTION if self.quantity == "excess" else 0
            return posterior.inclusion_probability(INCLUSION_FRACTION) - chance
        return posterior.mean if self.quantity == "mean" else posterior.stddev


def _flattened(target: object) -> object:
    """Flatten one class per image, in a list of 1-tuples or a tensor (B, 1), to (B,)."""
    if isinstance(target, list) and all(isinstance(one, tuple) and len(one) == 1 for one in target):
        return [one for (one,) in target]
    if isinstance(target, Tensor) and target.shape[1:] == (1,) and not target.is_floating_point():
        return target.flatten()
    return target
