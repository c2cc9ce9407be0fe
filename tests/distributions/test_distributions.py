"""Priors, posteriors and their KL divergence against dense matrices in float64."""

import math
from typing import Literal, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

from saliency_vae.distributions import (
    CorrelatedNormal,
    DiagonalNormal,
    KroneckerNormal,
    SaliencyPosterior,
    SaliencyPrior,
    SoftTVNormal,
    kl_floor,
)
from saliency_vae.distributions import make_posterior as posterior_of
from saliency_vae.distributions.kronecker import KernelName
from tests.helpers import reference

PriorName = Literal["exponential", "rbf", "matern32", "soft_tv"]
Family = Literal["mean_field", "correlated"]
PRIORS: tuple[PriorName, ...] = get_args(PriorName)
FAMILIES: tuple[Family, ...] = get_args(Family)
KERNELS: tuple[KernelName, ...] = get_args(KernelName)
few = settings(deadline=None, max_examples=15, derandomize=True)
sizes = st.integers(1, 7)


def make_prior(
    name: PriorName,
    height: int,
    width: int,
    correlation: tuple[float, float] = (0.5, 0.7),
    dtype: torch.dtype = torch.float64,
) -> SaliencyPrior:
    if name == "soft_tv":
        return SoftTVNormal(height, width, correlation[0], dtype=dtype)
    return KroneckerNormal(height, width, name, correlation, dtype=dtype)


def dense_covariance(
    name: PriorName, prior: SaliencyPrior, correlation: tuple[float, float] = (0.5, 0.7)
) -> Tensor:
    if name == "soft_tv":
        assert isinstance(prior, SoftTVNormal)
        return reference.soft_tv_covariance(prior.height, prior.width, prior.a, prior.t)
    return reference.kronecker_covariance(name, prior.height, prior.width, correlation)


def make_posterior(
    family: Family, prior: SaliencyPrior, batch: int = 3, seed: int = 0
) -> SaliencyPosterior:
    noise = torch.Generator().manual_seed(seed)
    shape = (batch, prior.height, prior.width)
    mean = torch.randn(shape, generator=noise, dtype=prior.dtype)
    log_variance = torch.randn(shape, generator=noise, dtype=prior.dtype) - 1
    if family == "mean_field":
        return DiagonalNormal(mean, log_variance)
    return CorrelatedNormal(mean, log_variance, prior)


def test_an_unknown_family_is_refused() -> None:
    zeros = torch.zeros(4, 4)
    with pytest.raises(ValueError, match=r"Expected posterior mean_field .* Found 'x'\."):
        posterior_of("x", zeros, zeros, KroneckerNormal(4, 4, correlation=0.5))  # type: ignore[arg-type]


def dense_posterior(q: SaliencyPosterior, prior_covariance: Tensor) -> MultivariateNormal:
    stddev = (q.log_variance / 2).exp().flatten(1)
    correlation = torch.eye(stddev.shape[1], dtype=torch.float64)
    if isinstance(q, CorrelatedNormal):
        scale = prior_covariance.diagonal().sqrt()
        correlation = prior_covariance / torch.outer(scale, scale)
    covariance = stddev[:, :, None] * correlation * stddev[:, None, :]
    return MultivariateNormal(q.mean.flatten(1), covariance)


def dense_prior(covariance: Tensor) -> MultivariateNormal:
    return MultivariateNormal(torch.zeros(len(covariance), dtype=torch.float64), covariance)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PRIORS)
@few
@given(
    height=sizes,
    width=sizes,
    vertical=st.floats(0, 0.7),
    horizontal=st.floats(0, 0.7),
    seed=st.integers(0, 99),
)
def test_kl_equals_dense(
    name: PriorName,
    family: Family,
    height: int,
    width: int,
    vertical: float,
    horizontal: float,
    seed: int,
) -> None:
    prior = make_prior(name, height, width, (vertical, horizontal))
    q = make_posterior(family, prior, seed=seed)
    covariance = dense_covariance(name, prior, (vertical, horizontal))
    expected = kl_divergence(dense_posterior(q, covariance), dense_prior(covariance))
    torch.testing.assert_close(kl_divergence(q, prior), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PRIORS)
def test_about_another_mean_it_equals_dense(name: PriorName, family: Family) -> None:
    zero_mean = make_prior(name, 5, 4)
    mean = torch.randn(3, 5, 4, dtype=torch.float64)
    prior = zero_mean.around(mean)
    covariance = dense_covariance(name, prior)
    dense: Distribution = MultivariateNormal(mean.flatten(1), covariance)
    value = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(prior.log_prob(value), dense.log_prob(value.flatten(-2)))
    q = make_posterior(family, prior)
    expected = kl_divergence(dense_posterior(q, covariance), dense)
    torch.testing.assert_close(kl_divergence(q, prior), expected)
    density: Distribution = dense_posterior(q, covariance)
    torch.testing.assert_close(q.log_prob(value), density.log_prob(value.flatten(-2)))
    assert torch.equal(zero_mean.mean, torch.zeros(5, 4, dtype=torch.float64))


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_about_another_mean(family: Family) -> None:
    mean = torch.randn(1, 4, 3, dtype=torch.float64)
    prior = make_prior("exponential", 4, 3).around(mean)
    covariance = dense_covariance("exponential", prior)
    assert prior.rsample((5,)).shape == (5, 1, 4, 3)
    assert_samples(prior, mean.flatten(), covariance)
    q = make_posterior(family, prior, batch=1)
    dense = dense_posterior(q, covariance)
    assert_samples(q, dense.mean[0], dense.covariance_matrix[0])


@pytest.mark.parametrize("name", PRIORS)
def test_the_same_prior_about_other_means_computes_its_constants_once(name: PriorName) -> None:
    prior = make_prior(name, 5, 4)
    one, other = prior.around(torch.zeros(2, 5, 4)), prior.around(torch.ones(3, 5, 4))
    assert one.precision_diagonal is other.precision_diagonal
    assert prior.log_determinant is one.log_determinant
    assert make_prior(name, 5, 4).log_determinant is not one.log_determinant


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_first_used_for_inference_can_be_trained_with_later(
    name: PriorName, family: Family, dtype: torch.dtype
) -> None:
    with torch.inference_mode():
        prior = make_prior(name, 5, 4, dtype=dtype)
        expected = kl_divergence(make_posterior(family, prior), prior)
    q = make_posterior(family, prior)
    mean, log_variance = q.mean.requires_grad_(), q.log_variance.requires_grad_()
    divergence = kl_divergence(posterior_of(family, mean, log_variance, prior), prior)
    torch.testing.assert_close(divergence, expected.clone())
    for gradient in torch.autograd.grad(divergence.sum(), (mean, log_variance)):
        assert gradient.isfinite().all()


def test_a_mean_of_other_maps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mean of maps \(5, 4\)\. Found \(2, 4, 5\)"):
        make_prior("exponential", 5, 4).around(torch.zeros(2, 4, 5))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("correlation", [(-0.6, 0.8), (0.95, -0.3), (0.0, 0.9)])
def test_exponential_kl_with_negative_or_high_correlation(
    family: Family, correlation: tuple[float, float]
) -> None:
    prior = make_prior("exponential", 5, 8, correlation)
    q = make_posterior(family, prior)
    covariance = dense_covariance("exponential", prior, correlation)
    expected = kl_divergence(dense_posterior(q, covariance), dense_prior(covariance))
    torch.testing.assert_close(kl_divergence(q, prior), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", PRIORS)
def test_prior_equals_dense(name: PriorName) -> None:
    prior = make_prior(name, 5, 4)
    covariance = dense_covariance(name, prior)
    dense: Distribution = dense_prior(covariance)
    value = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(prior.log_prob(value), dense.log_prob(value.flatten(-2)))
    torch.testing.assert_close(prior.variance.flatten(), covariance.diagonal())
    torch.testing.assert_close(
        prior.precision_diagonal.flatten(), torch.linalg.inv(covariance).diagonal()
    )
    assert prior.log_determinant == pytest.approx(float(torch.logdet(covariance)), rel=1e-10)
    assert torch.equal(prior.mean, torch.zeros(5, 4, dtype=torch.float64))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PRIORS)
def test_posterior_equals_dense(name: PriorName, family: Family) -> None:
    prior = make_prior(name, 5, 4)
    q = make_posterior(family, prior)
    dense: Distribution = dense_posterior(q, dense_covariance(name, prior))
    value = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(value), dense.log_prob(value.flatten(-2)))
    torch.testing.assert_close(q.entropy(), dense.entropy())
    torch.testing.assert_close(q.variance.flatten(1), dense.variance)
    torch.testing.assert_close(q.stddev, q.variance.sqrt())
    assert (q.batch_shape, q.event_shape) == ((3,), (5, 4))


def assert_samples(distribution: Distribution, mean: Tensor, covariance: Tensor) -> None:
    torch.manual_seed(0)
    count = 20_000
    samples = distribution.rsample((count,)).flatten(1).double()
    # A sample (co)variance strays by at most sqrt(2 / count) variances; allow 5 of that.
    tolerance = 5 * math.sqrt(2 / count) * float(covariance.diagonal().max())
    torch.testing.assert_close(samples.T.cov(), covariance, rtol=0, atol=tolerance)
    torch.testing.assert_close(samples.mean(0), mean, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", PRIORS)
def test_prior_samples_have_the_covariance(name: PriorName) -> None:
    prior = make_prior(name, 4, 3)
    assert_samples(prior, torch.zeros(12, dtype=torch.float64), dense_covariance(name, prior))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PRIORS)
def test_posterior_samples_have_the_covariance(name: PriorName, family: Family) -> None:
    prior = make_prior(name, 4, 3)
    q = make_posterior(family, prior, batch=1)
    dense = dense_posterior(q, dense_covariance(name, prior))
    assert_samples(q, dense.mean[0], dense.covariance_matrix[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_sample_shape_and_independent_images(family: Family) -> None:
    prior = make_prior("exponential", 4, 3)
    q = make_posterior(family, prior)
    samples = q.rsample((6, 2))
    assert samples.shape == (6, 2, 3, 4, 3)
    noise = ((samples - q.mean) / q.stddev).flatten(0, 2).flatten(1)
    assert len(torch.unique(noise, dim=0)) == len(noise)
    assert prior.rsample().shape == (4, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PRIORS)
def test_kl_gradient(name: PriorName, family: Family, dtype: torch.dtype) -> None:
    prior = make_prior(name, 6, 5, dtype=dtype)
    mean = torch.randn(2, 6, 5, dtype=dtype, requires_grad=True)
    log_variance = torch.randn(2, 6, 5, dtype=dtype, requires_grad=True)

    def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
        if family == "mean_field":
            return kl_divergence(DiagonalNormal(mean, log_variance), prior)
        return kl_divergence(CorrelatedNormal(mean, log_variance, prior), prior)

    divergence = kl(mean, log_variance)
    assert divergence.dtype == dtype
    for gradient in torch.autograd.grad(divergence.sum(), (mean, log_variance)):
        assert gradient.isfinite().all()
        assert gradient.abs().amin() > 0
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(kl, (mean, log_variance))


@few
@given(height=st.integers(2, 7), width=st.integers(2, 7), correlation=st.floats(0.01, 0.98))
def test_soft_tv_is_what_it_says(height: int, width: int, correlation: float) -> None:
    prior = SoftTVNormal(height, width, correlation, dtype=torch.float64)
    covariance = reference.soft_tv_covariance(height, width, prior.a, prior.t)
    assert float(covariance.diagonal().mean()) == pytest.approx(1, rel=1e-9)
    stddev = covariance.diagonal().sqrt()
    adjacent = [
        float(covariance[p, q] / (stddev[p] * stddev[q]))
        for p, q in reference.adjacent_pixels(height, width)
    ]
    assert sum(adjacent) / len(adjacent) == pytest.approx(correlation, rel=1e-8)


def test_soft_tv_mahalanobis_penalises_total_variation() -> None:
    prior = SoftTVNormal(6, 4, 0.8, dtype=torch.float64)
    s = torch.randn(6, 4, dtype=torch.float64)
    flat = s.flatten()
    variation = sum(float(flat[p] - flat[q]) ** 2 for p, q in reference.adjacent_pixels(6, 4))
    expected = prior.a * float(s.square().sum()) + prior.t * variation
    assert float(prior.mahalanobis(s)) == pytest.approx(expected, rel=1e-12)
    dense = flat @ reference.soft_tv_precision(6, 4, prior.a, prior.t) @ flat
    assert float(dense) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", PRIORS)
def test_mean_field_reaches_its_floor_and_no_less(name: PriorName) -> None:
    prior = make_prior(name, 6, 5)
    best = -prior.precision_diagonal.log()
    q = DiagonalNormal(torch.zeros_like(best), best)
    floor = kl_floor(q, prior)
    assert floor > 0.1
    assert float(kl_divergence(q, prior)) == pytest.approx(floor, rel=1e-10)
    for change in (0.1 * torch.randn_like(best), torch.tensor(0.05), torch.tensor(-0.05)):
        other = DiagonalNormal(torch.zeros_like(best), best + change)
        assert float(kl_divergence(other, prior)) > floor


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_mean_field_floor_on_a_big_map(correlation: float) -> None:
    prior = KroneckerNormal(500, 400, correlation=correlation)
    q = DiagonalNormal(torch.zeros(500, 400), torch.zeros(500, 400))
    # Border pixels have a smaller precision: a few per mille of the pixels.
    expected = math.log(1 + correlation**2)
    assert kl_floor(q, prior) / (500 * 400) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("name", PRIORS)
def test_correlated_has_no_floor(name: PriorName) -> None:
    prior = make_prior(name, 6, 5)
    q = CorrelatedNormal(prior.mean, 2 * prior.stddev.log(), prior)
    assert kl_floor(q, prior) == 0
    assert float(kl_divergence(q, prior)) == pytest.approx(0, abs=1e-10)
    wider = CorrelatedNormal(prior.mean, 2 * prior.stddev.log() + 0.1, prior)
    assert float(kl_divergence(wider, prior)) > 1e-3


@pytest.mark.parametrize("name", PRIORS)
def test_no_correlation_is_the_standard_normal(name: PriorName) -> None:
    prior = make_prior(name, 5, 4, (0, 0))
    assert_samples(prior, torch.zeros(20, dtype=torch.float64), torch.eye(20, dtype=torch.float64))
    q = make_posterior("mean_field", prior)
    standard = torch.distributions.Normal(0, 1)
    expected = kl_divergence(torch.distributions.Normal(q.mean, q.stddev), standard)
    torch.testing.assert_close(kl_divergence(q, prior), expected.sum((-2, -1)))
    assert kl_floor(q, prior) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("correlation", [1, -1, 1.5, -2.0, math.nan, math.inf])
@pytest.mark.parametrize("name", PRIORS)
def test_correlation_out_of_range(name: PriorName, correlation: float) -> None:
    with pytest.raises(ValueError, match=r"prior\.correlation"):
        make_prior(name, 4, 4, (correlation, 0.5))


@pytest.mark.parametrize("kernel", KERNELS)
def test_horizontal_correlation_out_of_range(kernel: KernelName) -> None:
    with pytest.raises(ValueError, match=r"prior\.correlation"):
        KroneckerNormal(4, 4, kernel, (0.5, 1.0))


@pytest.mark.parametrize("name", ["rbf", "matern32", "soft_tv"])
def test_negative_correlation_needs_the_exponential_kernel(name: PriorName) -> None:
    with pytest.raises(ValueError, match=r"prior\.correlation"):
        make_prior(name, 4, 4, (-0.5, -0.5))


def test_a_correlation_may_be_a_number_of_numpy() -> None:
    found = KroneckerNormal(4, 4, correlation=np.float32(0.5))  # type: ignore[arg-type]
    assert torch.equal(
        found.precision_diagonal, KroneckerNormal(4, 4, correlation=0.5).precision_diagonal
    )


def test_other_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"prior\.kernel"):
        KroneckerNormal(4, 4, "cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1x1"):
        KroneckerNormal(0, 4)
    with pytest.raises(ValueError, match="one shape"):
        DiagonalNormal(torch.zeros(2, 4, 4), torch.zeros(2, 4, 5))
    prior, twin = KroneckerNormal(4, 4), KroneckerNormal(4, 4)
    with pytest.raises(ValueError, match="prior over maps"):
        CorrelatedNormal(torch.zeros(2, 4, 5), torch.zeros(2, 4, 5), prior)
    with pytest.raises(ValueError, match="was made with"):
        kl_divergence(CorrelatedNormal(torch.zeros(4, 4), torch.zeros(4, 4), twin), prior)


def test_near_singular_rbf_warns_and_works() -> None:
    with pytest.warns(UserWarning, match="singular"):
        prior = KroneckerNormal(64, 64, "rbf", 0.99)
    q = make_posterior("correlated", prior)
    assert kl_divergence(q, prior).isfinite().all()
    assert prior.rsample((2,)).isfinite().all()
    adjacent = float(prior.rows.cholesky[1] @ prior.rows.cholesky[0])
    assert adjacent == pytest.approx(0.99, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("correlation", [0.5, 0.99])
def test_exponential_at_image_size(correlation: float, dtype: torch.dtype) -> None:
    n = 224
    prior = KroneckerNormal(n, n, correlation=correlation, dtype=dtype)
    lag = (torch.arange(n)[:, None] - torch.arange(n)).abs()
    kappa = correlation ** lag.double()
    inverse = torch.linalg.inv(kappa)
    log_determinant = 2 * n * torch.logdet(kappa)
    q = make_posterior("mean_field", prior, batch=2)
    mean, log_variance = q.mean.double(), q.log_variance.double()

    quadratic = (mean * (inverse @ mean @ inverse)).sum((-2, -1))
    diagonal = inverse.diagonal()
    trace = (torch.outer(diagonal, diagonal) * log_variance.exp()).sum((-2, -1))
    log_ratio = log_determinant - log_variance.sum((-2, -1))
    expected = 0.5 * (trace + quadratic - n * n + log_ratio)
    rtol = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(kl_divergence(q, prior).double(), expected, rtol=rtol, atol=0)

    stddev = (log_variance / 2).exp()
    hadamard = inverse * kappa
    trace = (stddev * (hadamard @ stddev @ hadamard)).sum((-2, -1))
    expected = 0.5 * (trace + quadratic - n * n - log_variance.sum((-2, -1)))
    correlated = CorrelatedNormal(q.mean, q.log_variance, prior)
    divergence = kl_divergence(correlated, prior).double()
    torch.testing.assert_close(divergence, expected, rtol=rtol, atol=0)


@pytest.mark.parametrize("own_mean", [False, True])
@pytest.mark.parametrize("family", ["mean_field", "correlated"])
def test_split_gives_each_image_its_own_posterior(family: Family, own_mean: bool) -> None:
    prior = KroneckerNormal(5, 4, correlation=0.8)
    prior = prior.around(torch.randn(3, 5, 4)) if own_mean else prior
    mean, log_variance = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    whole = posterior_of(family, mean, log_variance, prior)
    assert all(part.signal_spread is None for part in whole.split())
    whole.signal_spread = torch.rand(3, 5, 4)
    whole.estimate_confidence = lambda posterior: posterior.mean.mean((-2, -1))
    whole.find_out_of_depth = lambda: torch.tensor([False, True, False])
    parts = whole.split()
    assert [part.out_of_depth.item() for part in parts] == [False, True, False]
    assert torch.equal(torch.stack([part.confidence for part in parts]), whole.confidence)
    for part, spread in zip(parts, whole.signal_spread, strict=True):
        assert part.signal_spread is not None
        assert torch.equal(part.signal_spread, spread)
    assert [type(part) for part in parts] == [type(whole)] * 3
    value = torch.randn(3, 5, 4)
    apart = torch.stack([part.log_prob(one) for part, one in zip(parts, value, strict=True)])
    torch.testing.assert_close(apart, whole.log_prob(value))


def test_a_generator_seeds_the_samples_and_nothing_else() -> None:
    prior = KroneckerNormal(5, 4, correlation=0.8)
    state = torch.random.get_rng_state()
    for distribution in (
        prior,
        DiagonalNormal(torch.zeros(5, 4), torch.zeros(5, 4)),
        CorrelatedNormal(torch.zeros(5, 4), torch.zeros(5, 4), prior),
    ):
        first, again, other = (
            distribution.rsample((2,), generator=torch.Generator().manual_seed(seed))
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
