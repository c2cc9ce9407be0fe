"""Controls of sampled maps: as much variance, elsewhere."""

import pytest
import torch

from saliency_vae.distributions import CorrelatedNormal, DiagonalNormal, KroneckerNormal
from saliency_vae.distributions.posterior import SaliencyPosterior
from saliency_vae.evaluation.uncertainty.deviations import (
    DISTANT,
    ISOTROPIC,
    REVERSED,
    ROLES,
    SAMPLED,
    SHUFFLED,
    SMOOTH,
    deviations,
)
from saliency_vae.topk import top_pixels

PRIOR = KroneckerNormal(8, 6, correlation=0.8)
SAMPLES = 3000


def posterior(*, correlated: bool) -> SaliencyPosterior:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 8, 6, generator=generator)
    if correlated:
        return CorrelatedNormal(mean, log_variance, PRIOR)
    return DiagonalNormal(mean, log_variance)


@pytest.fixture(scope="module", params=[False, True], ids=["mean_field", "correlated"])
def given(
    request: pytest.FixtureRequest,
) -> tuple[SaliencyPosterior, dict[str, torch.Tensor]]:
    one = posterior(correlated=request.param)
    generator = torch.Generator().manual_seed(1)
    return one, deviations(
        one, PRIOR, top_pixels(one.mean, 0.25), samples=SAMPLES, generator=generator
    )


def test_all_have_the_variance_of_the_posterior(
    given: tuple[SaliencyPosterior, dict[str, torch.Tensor]],
) -> None:
    one, found = given
    assert found.keys() == ROLES.keys()
    for name, deviation in found.items():
        total = deviation.square().mean(0).sum()
        assert total.item() == pytest.approx(one.variance.sum().item(), rel=0.06), name


def test_variances_lie_where_they_should(
    given: tuple[SaliencyPosterior, dict[str, torch.Tensor]],
) -> None:
    one, found = given
    variances = {name: deviation.square().mean(0) for name, deviation in found.items()}
    expected = one.variance.flatten().tolist()
    ranked = sorted(range(48), key=lambda place: expected[place])
    for place, other in zip(ranked, reversed(ranked), strict=True):
        assert variances[REVERSED].flatten()[place] == pytest.approx(expected[other], rel=0.2)
        assert variances[SAMPLED].flatten()[place] == pytest.approx(expected[place], rel=0.2)
    common = sum(expected) / 48
    for name in (ISOTROPIC, SMOOTH):
        torch.testing.assert_close(variances[name], torch.full((8, 6), common), rtol=0.2, atol=0.0)
    border = sorted(one.mean.flatten().tolist(), reverse=True)[11]
    ratio = variances[DISTANT] / (one.mean - border).square()
    assert ratio[one.mean != border].std() < 0.1 * ratio[one.mean != border].mean()


def test_shuffled_variances_are_those_of_the_posterior_in_another_order() -> None:
    one = posterior(correlated=False)
    seeds = (torch.Generator().manual_seed(2) for _ in range(2))
    first, second = (
        deviations(one, PRIOR, top_pixels(one.mean, 0.25), samples=2, generator=generator)
        for generator in seeds
    )
    assert torch.equal(first[SHUFFLED], second[SHUFFLED])
    noise = first[ISOTROPIC] / one.variance.mean().sqrt()
    for map_, white in zip(first[SHUFFLED], noise, strict=True):
        variances = (map_ / white).square().flatten()
        torch.testing.assert_close(variances.sort().values, one.variance.flatten().sort().values)
        assert (variances - one.variance.flatten()).abs().max() > 1e-3


def test_smooth_noise_has_the_correlation_of_the_prior(
    given: tuple[SaliencyPosterior, dict[str, torch.Tensor]],
) -> None:
    smooth, white = given[1][SMOOTH], given[1][ISOTROPIC]
    for maps, expected in ((smooth, 0.8), (white, 0.0)):
        pairs = (maps[:, 1:] * maps[:, :-1]).mean() / maps.square().mean()
        assert pairs.item() == pytest.approx(expected, abs=0.03)
