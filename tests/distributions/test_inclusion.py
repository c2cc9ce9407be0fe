"""Which pixels are among the most salient, and how surely."""

import math

import pytest
import torch
from torch import Tensor

from saliency_vae.distributions import (
    CorrelatedNormal,
    DiagonalNormal,
    KroneckerNormal,
    SaliencyPosterior,
)
from saliency_vae.topk import hard_topk, num_kept

SIZE = 32


def posterior(correlation: float | None = None) -> SaliencyPosterior:
    """A blob on noise, with a stddev that varies from pixel to pixel by a factor of 3."""
    noise = torch.Generator().manual_seed(0)
    x = torch.linspace(-2, 2, SIZE)
    blob = 2 * torch.exp(-(x[:, None].square() + (x - 0.5).square()))
    mean = blob + 0.3 * torch.randn(2, SIZE, SIZE, generator=noise)
    stddev = 0.2 + 0.4 * torch.rand(2, SIZE, SIZE, generator=noise)
    if correlation is None:
        return DiagonalNormal(mean, 2 * stddev.log())
    prior = KroneckerNormal(SIZE, SIZE, correlation=correlation)
    return CorrelatedNormal(mean, 2 * stddev.log(), prior)


def frequency(q: SaliencyPosterior, fraction: float, count: int) -> Tensor:
    k = num_kept(fraction, SIZE * SIZE)
    hits = sum(hard_topk(q.rsample((500,)).flatten(-2), k).sum(0) for _ in range(count // 500))
    assert isinstance(hits, Tensor)
    return hits.view(q.mean.shape) / count


@pytest.mark.parametrize("fraction", [0.0005, 0.05, 0.1, 0.5, 0.999, 1.0])
def test_sums_to_k(fraction: float) -> None:
    probability = posterior().inclusion_probability(fraction)
    k = float(num_kept(fraction, SIZE * SIZE))
    assert probability.shape == (2, SIZE, SIZE)
    assert probability.min() >= 0
    assert probability.max() <= 1
    torch.testing.assert_close(probability.sum((1, 2)), torch.full((2,), k), rtol=1e-4, atol=0)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("correlation", [None, 0.5, 0.9, 0.99])
def test_agrees_with_monte_carlo(fraction: float, correlation: float | None) -> None:
    torch.manual_seed(0)
    q, count = posterior(correlation), 4000
    error = (q.inclusion_probability(fraction) - frequency(q, fraction, count)).abs()
    # A frequency strays by up to 0.5 / sqrt(count) = 0.008. The largest of 2048 may be 4.5 of
    # these; the sampled threshold's own wandering, O(1 / pixels), adds less than one.
    assert error.max() < 5.5 * 0.5 / math.sqrt(count)
    assert error.mean() < 0.5 / math.sqrt(count)


@pytest.mark.parametrize("correlation", [None, 0.9])
@pytest.mark.parametrize("shift", [30.0, 100.0, -100.0])
def test_a_shift_of_the_mean_changes_nothing(correlation: float | None, shift: float) -> None:
    q = posterior(correlation)
    expected = q.inclusion_probability(0.1)
    found = q.like(q.mean + shift, q.log_variance).inclusion_probability(0.1)
    assert (found - expected).abs().max() < 1e-3


@pytest.mark.parametrize(("log_variance", "fraction"), [(-30.0, 0.1), (-300.0, 0.1), (-300.0, 1.0)])
def test_no_variance_is_the_hard_topk(log_variance: float, fraction: float) -> None:
    mean = posterior().mean
    sure = DiagonalNormal(mean, torch.full_like(mean, log_variance))
    probability = sure.inclusion_probability(fraction)
    torch.testing.assert_close(probability, sure.topk_mask(fraction).float(), rtol=0, atol=1e-2)


@pytest.mark.parametrize("fraction", [0.0001, 0.05, 0.333, 1.0])
@pytest.mark.parametrize("tied", [False, True])
def test_topk_mask_marks_exactly_the_fraction(fraction: float, tied: bool) -> None:
    mean = posterior().mean
    q = DiagonalNormal(mean.round() if tied else mean, torch.zeros_like(mean))
    mask = q.topk_mask(fraction)
    assert mask.dtype == torch.bool
    assert mask.shape == mean.shape
    assert mask.sum((1, 2)).tolist() == [num_kept(fraction, SIZE * SIZE)] * 2
    if fraction < 1:
        assert all(m[s].min() >= m[~s].max() for m, s in zip(q.mean, mask, strict=True))


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5])
def test_wrong_fraction(fraction: float) -> None:
    with pytest.raises(ValueError, match="0 < fraction <= 1"):
        posterior().inclusion_probability(fraction)
    with pytest.raises(ValueError, match="0 < fraction <= 1"):
        posterior().topk_mask(fraction)
