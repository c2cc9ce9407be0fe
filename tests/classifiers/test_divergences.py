"""Reconstruction losses against torch.distributions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from saliency_vae.classifiers.divergences import bernoulli_kl, categorical_kl

Loss = Callable[[Tensor, Tensor], Tensor]
both = pytest.mark.parametrize("loss", [categorical_kl, bernoulli_kl])


def random_logits(labels: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(6, labels, generator=noise, dtype=dtype)


@pytest.mark.parametrize("classes", [2, 10])
def test_categorical(classes: int) -> None:
    y, y_perturbed = random_logits(classes, 0), random_logits(classes, 1)
    expected = kl_divergence(Categorical(logits=y), Categorical(logits=y_perturbed))
    torch.testing.assert_close(categorical_kl(y, y_perturbed), expected)


@pytest.mark.parametrize("labels", [1, 2, 10])
def test_bernoulli(labels: int) -> None:
    y, y_perturbed = random_logits(labels, 0), random_logits(labels, 1)
    expected = kl_divergence(Bernoulli(logits=y), Bernoulli(logits=y_perturbed)).sum(-1)
    assert expected.shape == (6,)
    torch.testing.assert_close(bernoulli_kl(y, y_perturbed), expected)


def test_a_logit_is_two_classes() -> None:
    y, y_perturbed = random_logits(1, 0), random_logits(1, 1)
    two, two_perturbed = (torch.cat((x, torch.zeros_like(x)), 1) for x in (y, y_perturbed))
    torch.testing.assert_close(bernoulli_kl(y, y_perturbed), categorical_kl(two, two_perturbed))


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_at_equality_and_positive_elsewhere(loss: Loss, dtype: torch.dtype) -> None:
    y = random_logits(5, 0, dtype)
    torch.testing.assert_close(loss(y, y), torch.zeros(6, dtype=dtype), rtol=0, atol=1e-6)
    assert (loss(y, random_logits(5, 1, dtype)) > 0).all()


@both
@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_finite_at_extreme_logits(loss: Loss, scale: float) -> None:
    y = scale * torch.tensor([[1.0, -1, 0.5], [-1, 1, -0.5], [1, 1, 1]])
    y_perturbed = (-y.flip(0)).requires_grad_()
    divergence = loss(y, y_perturbed)
    assert divergence.isfinite().all()
    assert (divergence >= 0).all()
    assert divergence.max() >= scale / 2
    (gradient,) = torch.autograd.grad(divergence.sum(), y_perturbed)
    assert gradient.isfinite().all()


@both
def test_gradient_is_that_of_the_prediction(loss: Loss) -> None:
    y, y_perturbed = random_logits(4, 0), random_logits(4, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(y, y_perturbed).sum(), y_perturbed)
    squash = torch.sigmoid if loss is bernoulli_kl else lambda logits: logits.softmax(-1)
    torch.testing.assert_close(gradient, (squash(y_perturbed) - squash(y)).detach())
