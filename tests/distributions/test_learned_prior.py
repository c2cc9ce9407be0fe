"""The correlation that is learned."""

from typing import Any

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from saliency_vae.distributions import DiagonalNormal, Family, KroneckerNormal, make_posterior
from saliency_vae.distributions.learned_prior import ExponentialPrior
from tests.helpers import reference


@pytest.mark.parametrize("family", ["mean_field", "correlated"])
def test_gradient_of_the_kl_equals_differences_of_dense_matrices(family: Family) -> None:
    """All of the dependence on rho, the log-determinant too."""
    height, width = 4, 3
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(height, width, generator=generator, dtype=torch.float64)
    log_variance = 0.3 * torch.randn(height, width, generator=generator, dtype=torch.float64)

    def dense(vertical: float, horizontal: float) -> float:
        covariance = reference.kronecker_covariance(
            "exponential", height, width, (vertical, horizontal)
        )
        stddev = (log_variance / 2).exp().flatten()
        shape = covariance if family == "correlated" else torch.eye(len(stddev)).double()
        q = MultivariateNormal(mean.flatten(), stddev[:, None] * shape * stddev)
        p = MultivariateNormal(torch.zeros_like(stddev), covariance)
        return float(kl_divergence(q, p))

    rho = torch.tensor([0.6, 0.3], dtype=torch.float64, requires_grad=True)
    prior = KroneckerNormal(height, width, correlation=rho, dtype=torch.float64)
    q = make_posterior(family, mean, log_variance, prior)
    loss = kl_divergence(q, prior)
    assert float(loss.detach()) == pytest.approx(dense(0.6, 0.3), rel=1e-10)
    (found,) = torch.autograd.grad(loss, rho)
    step = 1e-6
    expected = torch.tensor(
        [
            (dense(0.6 + step, 0.3) - dense(0.6 - step, 0.3)) / (2 * step),
            (dense(0.6, 0.3 + step) - dense(0.6, 0.3 - step)) / (2 * step),
        ]
    )
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-5)


def test_samples_of_a_learned_prior_carry_gradients() -> None:
    factory = ExponentialPrior(0.5, learn_correlation=True)
    prior = factory(4, 5)
    prior.rsample((2,)).square().sum().backward()
    assert factory.unbounded is not None
    assert factory.unbounded.grad is not None
    assert factory.unbounded.grad.abs().sum() > 0


@pytest.mark.parametrize("correlation", [0.99999999, -0.99999999])
def test_a_correlation_that_is_learned_stays_below_one(correlation: float) -> None:
    make = ExponentialPrior(correlation, learn_correlation=True)
    assert make.unbounded is not None
    for parameter in (make.unbounded.item(), 50.0, -50.0):
        torch.nn.init.constant_(make.unbounded, parameter)
        prior = make(8, 8)
        assert prior.log_determinant.isfinite()
        assert prior.log_prob(torch.rand(8, 8)).isfinite()


def test_learning_finds_the_correlation_of_the_maps() -> None:
    """The prior of highest density of maps drawn with (0.8, 0.3) is that of (0.8, 0.3)."""
    generator = torch.Generator().manual_seed(0)
    truth = KroneckerNormal(24, 24, correlation=(0.8, 0.3))
    maps = truth.rsample((64,), generator=generator)
    factory = ExponentialPrior((0.5, 0.5), learn_correlation=True)
    optimizer = torch.optim.Adam(factory.parameters(), lr=0.05)
    for _ in range(80):
        q = DiagonalNormal(maps, torch.zeros_like(maps))
        optimizer.zero_grad()
        (-factory(24, 24).log_prob(q.mean).mean()).backward()
        optimizer.step()
    assert factory.learned is not None
    assert factory.learned.tolist() == pytest.approx([0.8, 0.3], abs=0.02)


@pytest.mark.parametrize("correlation", [0.7, (0.2, 0.7), [0.2, 0.7], -0.4, 0])
def test_fixed_ones_are_the_kronecker_prior(correlation: Any) -> None:
    maps = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    factory = ExponentialPrior(correlation)
    assert factory.learned is None
    assert list(factory.parameters()) == []
    expected = KroneckerNormal(5, 6, correlation=correlation).log_prob(maps)
    torch.testing.assert_close(factory(5, 6).log_prob(maps), expected)
    learning = ExponentialPrior(correlation, learn_correlation=True)
    torch.testing.assert_close(learning(5, 6).log_prob(maps), expected)


@pytest.mark.parametrize("correlation", [1.0, -1.0, 1.5, (0.5, 1.0), float("nan")])
def test_correlations_out_of_range_are_refused(correlation: Any) -> None:
    with pytest.raises(ValueError, match=r"-1 < prior.correlation < 1"):
        ExponentialPrior(correlation, learn_correlation=True)


def test_only_the_exponential_kernel_learns() -> None:
    with pytest.raises(ValueError, match="to be numbers for the rbf kernel"):
        KroneckerNormal(4, 4, "rbf", correlation=torch.tensor(0.5))
