"""A traced network answers as the network, gradients that it takes included."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.exporting import LoadedExport
from saliency_vae.exporting.graph import ExplainerGraph, TracedGraph
from saliency_vae.models.universal_encoder import _fixed_noise
from tests.helpers import tiny_classifier, tiny_universal


class InputGradient(nn.Module):
    """Gradient of a network's answers with respect to its images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = images.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.network(leaf).square().sum(), leaf)
        return gradient


class Attention(nn.Module):
    """Of the pixels of a row to one another, a head for each row."""

    def forward(self, images: Tensor) -> Tensor:
        rows = images.transpose(1, 2)  # (B, H, 3, W)
        return F.scaled_dot_product_attention(rows, rows, rows.square())


@pytest.mark.parametrize(
    "network",
    [
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(3, 4, 3, stride=2, padding=1),  # leaves a row and a column over
        nn.Conv2d(3, 4, (2, 5), stride=(3, 4), padding=(0, 3), dilation=(2, 1)),
        nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.AdaptiveAvgPool2d((4, 1)),  # 18 rows in four parts that overlap
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(3, stride=2, padding=1, dilation=2, ceil_mode=True),
        nn.Sequential(nn.Flatten(1, 2), nn.MaxPool2d(3, stride=2)),  # (C, H, W): no batch
        nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 5, stride=3)),
        nn.Conv2d(3, 4, 3, stride=2).to(memory_format=torch.channels_last),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(inplace=True)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        nn.SiLU(),
        nn.GELU(),
        Attention(),
        nn.ConvTranspose2d(3, 4, 3, stride=2),  # left to PyTorch
    ],
    ids=str,
)
def test_gradients_are_as_pytorch_takes_them(network: nn.Module) -> None:
    gradient = InputGradient(network.double())
    images = torch.randn(5, 3, 18, 23, dtype=torch.float64)
    traced = TracedGraph(gradient, images[:2])
    for some in (images[:1], images[:2], images):
        torch.testing.assert_close(traced(some), gradient(some))


def test_a_traced_network_takes_no_gradient_itself() -> None:
    traced = TracedGraph(InputGradient(nn.Conv2d(3, 4, 3, stride=2)), torch.randn(2, 3, 18, 23))
    called = {str(node.target) for node in traced.operations.graph.nodes}
    assert "aten.convolution.default" in called
    assert not any("backward" in name for name in called)


def test_traced_before_the_first_explanation() -> None:
    """Its constants are real numbers, for what comes after too."""
    _fixed_noise.cache_clear()  # as in a process of its own
    torch.manual_seed(0)
    explainer = tiny_universal.build(FrozenClassifier(tiny_classifier.build(), name="tiny"))
    images = torch.rand(3, 3, 20, 33)
    graph = TracedGraph(ExplainerGraph(explainer), images[:2]).eval()
    program = torch.export.export(
        graph, (images[:2],), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}
    )
    posterior = explainer(images)
    assert posterior.signal_spread is not None  # which a graph does not have
    for found, expected in zip(
        program.module()(images),
        (posterior.mean, posterior.stddev, posterior.confidence),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


class OfAClassToken(nn.Module):
    """A transformer whose logits depend on the class token: of its last tokens on no patch."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], dim=1)
        logits: Tensor = self.head(self.norm(self.block(tokens))[:, 0])
        return logits


def test_a_transformer_is_traced_by_what_an_explanation_has_shown() -> None:
    torch.manual_seed(0)
    explainer = tiny_universal.build(FrozenClassifier(OfAClassToken().eval(), name="tokens"))
    images = torch.rand(3, 3, 32, 40)
    with pytest.raises(ValueError, match="Expected an explanation before the explainer of a tran"):
        TracedGraph(ExplainerGraph(explainer), images[:2])
    posterior = explainer(images)
    mean, stddev, confidence = TracedGraph(ExplainerGraph(explainer), images[:2]).eval()(images)
    torch.testing.assert_close(mean, posterior.mean)
    torch.testing.assert_close(stddev, posterior.stddev)
    torch.testing.assert_close(confidence, posterior.confidence)


def test_a_network_that_gives_nan_is_not_blamed_on_the_images() -> None:
    loaded = LoadedExport(lambda images: [images[:, 0] * torch.nan], {"image_size": [16, 16]})
    with pytest.raises(ValueError, match=r"a graph that answers in numbers. Found NaN for images"):
        loaded(torch.rand(1, 3, 16, 16))
