"""What is exported of an explainer: one graph, from images to mean, stddev and confidence."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from saliency_vae.distributions import DiagonalNormal
from saliency_vae.models import Explainer

aten = torch.ops.aten


class Graph(nn.Module):
    """Maps images (B, 3, H, W) in [0, 1] to mean, stddev and confidence.

    Sampling is left out: a graph has no random numbers of its own. Where the encoder asks the
    classifier, the classifier is a part of the graph.
    """

    def __init__(self, explainer: Explainer) -> None:
        super().__init__()
        self.explainer = explainer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Explain: mean and stddev, (B, H, W) each, and confidence, (B,); float32.

        Raises:
            ValueError: If the explainer has no confidence network.
        """
        encoded = self.explainer.encode(images, self.explainer.signals(images))
        posterior = DiagonalNormal(*encoded)  # each pixel's own
        return (
            posterior.mean,
            posterior.stddev,
            self.explainer.estimate_confidence(images, posterior),
        )


class Traced(nn.Module):
    """A network's operations at one size of image and any batch, gradients that it takes included.

    An exporter follows a network's own operations, but not those of the gradients that it takes.
    Here both are operators alike, and those of a gradient that ONNX lacks are made of others.

    Args:
        network: Maps images (B, 3, H, W) to tensors.
        example: Images of the size, B >= 2.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        size = example.shape[1:]

        # Flat: every dimension of an input becomes a symbol, and only the batch may stay one.
        def answer(flat: Tensor) -> Any:
            return network(flat.view(flat.shape[0], *size))

        with sdpa_kernel(SDPBackend.MATH):  # attention of plain products
            self.operations = make_fx(
                answer, _GRADIENTS, tracing_mode="symbolic", _allow_non_fake_inputs=True
            )(example.flatten(1))

    def forward(self, images: Tensor) -> Any:
        """Answer as the network does."""
        return self.operations(images.flatten(1))


def _convolution_gradient(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias_sizes: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> Any:
    """Gradient of a convolution with respect to its input alone: the transposed convolution.

    Arguments are those of ``aten::convolution_backward``.
    """
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
    """Gradient of a max pooling: to where each maximum was."""
    where: Tensor = settings[-1]
    nothing = torch.zeros_like(inputs).flatten(-2)
    return nothing.scatter_add(-1, where.flatten(-2), gradient.flatten(-2)).view_as(inputs)


_GRADIENTS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: _convolution_gradient,
    aten.max_pool2d_with_indices_backward.default: _max_pooling_gradient,
    **get_decompositions([aten.silu_backward]),
}
