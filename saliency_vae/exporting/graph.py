"""The graph that is exported from an explainer: images in, maps and confidence out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from saliency_vae.classifiers import Target
from saliency_vae.distributions import DiagonalNormal
from saliency_vae.models import Explainer
from saliency_vae.models.images import RANGE_MARGIN

aten = torch.ops.aten


class ExplainerGraph(nn.Module):
    """Maps images (B, 3, H, W) in [0, 1] to mean, stddev, confidence and out_of_depth.

    The last is left out if the confidence is measured, or if the explainer cannot tell its depth.
    Sampling is left out because a graph has no random numbers of its own. The classifier is part of
    the graph if the encoder is conditioned on it. A graph raises no errors: for an image that is
    not in [0, 1], out_of_depth is True and all other outputs are NaN.

    Args:
        explainer: Explainer with its classifier, or with a confidence network.
        target: Target to explain; None for the decision.
    """

    def __init__(self, explainer: Explainer, target: Target | None = None) -> None:
        super().__init__()
        self.explainer = explainer
        self.target = target
        network = explainer.confidence
        self.tells_depth = network is not None and network.depth.is_known

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Explain images: mean and stddev, (B, H, W) each, and confidence, (B,); float32.

        If the explainer can tell, also whether each image is out of its depth, (B,) bool.

        Raises:
            ValueError: If the explainer has neither a classifier nor a confidence network.
        """
        explainer = self.explainer
        signals = explainer.signals(images, self.target)
        encoded = explainer.mean_and_log_variance(images, signals)
        posterior = DiagonalNormal(*encoded)  # mean and stddev are the same in any family
        posterior.estimate_confidence = explainer.confidence_of(images, signals)
        confidence = posterior.confidence
        flat = images.flatten(1)
        in_range = (flat.amin(1) >= -RANGE_MARGIN) & (flat.amax(1) <= 1 + RANGE_MARGIN)
        nan = torch.full_like(confidence, torch.nan)
        unknown = torch.where(in_range, torch.zeros_like(nan), nan)
        spread = unknown[:, None, None]
        found = posterior.mean + spread, posterior.stddev + spread, confidence + unknown
        if explainer.confidence is None or not self.tells_depth:
            return found
        return *found, explainer.confidence.out_of_depth(images) | ~in_range


class TracedGraph(nn.Module):
    """A network traced at one image size and any batch size, including its backward passes.

    An exporter follows the forward pass of a network, but not the backward passes inside it. Here
    both become plain operators, and gradient operators that ONNX lacks are composed of others.

    Args:
        network: Network from images (B, 3, H, W) to tensors.
        example: Images of that size, B >= 2.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        size = example.shape[1:]

        # Every dimension of an input becomes symbolic, but only the batch may stay so: hence the
        # flat images.
        def answer(flat: Tensor) -> Any:
            return network(flat.view(flat.shape[0], *size))

        with sdpa_kernel(SDPBackend.MATH):  # attention as plain products
            self.operations = make_fx(
                answer, _GRADIENTS, tracing_mode="symbolic", _allow_non_fake_inputs=True
            )(example.flatten(1))

    def forward(self, images: Tensor) -> Any:
        """Compute what the network computes."""
        return self.operations(images.flatten(1))


def _convolution_gradient(
    gradient: Tensor, inputs: Tensor, weight: Tensor, bias_sizes: Any, *settings: Any
) -> Any:
    """Gradient of a convolution with respect to its input alone: the transposed convolution.

    Arguments are those of ``aten::convolution_backward``.
    """
    stride, padding, dilation, transposed, _, groups, wanted = settings
    if transposed or wanted != [True, False, False]:
        return NotImplemented
    left_over = [
        (size + 2 * p - d * (k - 1) - 1) % s
        for size, p, d, k, s in zip(
            inputs.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    back = aten.convolution(
        gradient, weight, None, stride, padding, dilation, True, left_over, groups
    )
    return back, None, None


def _max_pooling_gradient(gradient: Tensor, inputs: Tensor, *settings: Any) -> Tensor:
    """Gradient of max pooling, which is passed to the position of each maximum."""
    where: Tensor = settings[-1]
    zeros = torch.zeros_like(inputs).flatten(-2)
    return zeros.scatter_add(-1, where.flatten(-2), gradient.flatten(-2)).view_as(inputs)


def _adaptive_pooling_gradient(gradient: Tensor, inputs: Tensor) -> Tensor:
    """Gradient of adaptive average pooling, as a product with constant matrices."""
    rows, columns = (
        _averages(size, pooled).to(gradient)
        for size, pooled in zip(inputs.shape[-2:], gradient.shape[-2:], strict=True)
    )
    return rows.T @ gradient @ columns


def _averages(size: int, pooled: int) -> Tensor:
    """Weights of each of ``size`` pixels in each of ``pooled`` averages, (pooled, size)."""
    weights = torch.zeros(pooled, size)
    for place in range(pooled):
        first, end = place * size // pooled, -(-(place + 1) * size // pooled)
        weights[place, first:end] = 1 / (end - first)
    return weights


_GRADIENTS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: _convolution_gradient,
    aten.max_pool2d_with_indices_backward.default: _max_pooling_gradient,
    aten._adaptive_avg_pool2d_backward.default: _adaptive_pooling_gradient,
    **get_decompositions([aten.silu_backward]),
}
