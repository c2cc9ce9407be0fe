"""The small networks of digits: their outputs, their families, and that all of them can learn."""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saliency_vae.classifiers.digit_networks import (
    Architecture,
    digit_network,
)

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)


@pytest.mark.parametrize("size", [16, 48, 64])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_of_ten_digits(architecture: Architecture, size: int) -> None:
    logits = digit_network(architecture).eval()(torch.rand(3, 3, size, size))
    assert logits.shape == (3, 10)
    assert logits.isfinite().all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_image_is_classified_whatever_its_batch(architecture: Architecture) -> None:
    torch.manual_seed(0)
    network = digit_network(architecture).eval()
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(network(images[2:3]), network(images)[2:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_learns(architecture: Architecture) -> None:
    torch.manual_seed(0)
    network = digit_network(architecture)
    images, labels = torch.rand(8, 3, 32, 32), torch.arange(8)
    torch.autograd.backward(F.cross_entropy(network(images), labels))
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_families_differ_in_their_parts() -> None:
    parts = {
        architecture: {type(part) for part in digit_network(architecture).modules()}
        for architecture in ARCHITECTURES
    }
    for architecture, part in (
        ("convolutional", nn.BatchNorm2d),
        ("residual", nn.GroupNorm),
    ):
        assert [name for name in ARCHITECTURES if part in parts[name]] == [architecture]
