"""Bootstrap intervals against a loop, theory and coverage."""

import math

import pytest
import torch
from scipy.stats import binom, binomtest  # type: ignore[import-untyped]
from torch import Tensor

from saliency_vae.metrics import bootstrap
from saliency_vae.metrics.bootstrap import (
    difference_interval,
    mean_interval,
    resampled_means,
    statistic_interval,
)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_means_equal_a_loop() -> None:
    values = draw(0, 17, 2, 3)
    generator = torch.Generator().manual_seed(5)
    drawn = torch.randint(17, (40, 17), generator=generator)
    loop = torch.stack([values[images].double().mean(0) for images in drawn])
    torch.testing.assert_close(resampled_means(values, resamples=40, seed=5), loop)


def test_blocks_bound_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = draw(0, 17)
    whole = resampled_means(values, resamples=41, seed=5)
    monkeypatch.setattr(bootstrap, "_DRAWS", 100)  # 5 resamples a block
    torch.testing.assert_close(resampled_means(values, resamples=41, seed=5), whole)
    assert whole.shape == (41,)


def test_interval_is_that_of_theory() -> None:
    values = 3 + 2 * draw(0, 1000)
    interval = mean_interval(values)
    half = 1.96 * float(values.std()) / math.sqrt(1000)
    assert float(interval.mean) == pytest.approx(float(values.mean()), rel=1e-6)
    assert float(interval.mean - interval.low) == pytest.approx(half, rel=0.1)
    assert float(interval.high - interval.mean) == pytest.approx(half, rel=0.1)


@pytest.mark.parametrize(("hits", "number"), [(0, 100), (100, 100), (37, 100), (1, 3), (1, 1)])
def test_interval_of_hits_is_wilsons(hits: int, number: int) -> None:
    reference = binomtest(hits, number).proportion_ci(0.95, method="wilson")
    interval = mean_interval(torch.arange(number) < hits, shares=True)
    assert float(interval.mean) == hits / number
    assert float(interval.low) == pytest.approx(reference.low, abs=1e-9)
    assert float(interval.high) == pytest.approx(reference.high, abs=1e-9)
    assert interval.low < interval.high


def test_an_interval_of_hits_holds_their_share() -> None:
    """To the last bit: figures draw the distances, which must not be negative."""
    for number in range(1, 80):
        hits = (torch.arange(number)[:, None] < torch.arange(number + 1)).double()
        interval = mean_interval(hits, shares=True)
        assert (interval.low >= 0).all()
        assert (interval.low <= interval.mean).all()
        assert (interval.mean <= interval.high).all()
        assert (interval.high <= 1).all()


def test_each_column_has_the_interval_of_its_kind() -> None:
    columns = [(torch.arange(30) < 30).float(), draw(0, 30), (torch.arange(30) < 9).float()]
    together = mean_interval(torch.stack(columns, 1), shares=True)
    for column, values in enumerate(columns):
        for found, expected in zip(together, mean_interval(values, shares=True), strict=True):
            torch.testing.assert_close(found[column], expected)
    assert together.low[0] < together.high[0]


def test_of_differences_it_stays_the_bootstrap() -> None:
    """A method better in 1 of 100 images and worse in none is not thereby shown to be better."""
    one = (torch.arange(100) < 1).float()
    interval = difference_interval(one, torch.zeros(100))
    assert float(interval.low) == 0
    means = resampled_means(one)
    assert float(interval.high) == pytest.approx(float(means.quantile(0.975)))


def test_percentiles_of_differences_of_hits_are_those_of_the_binomial() -> None:
    hits = torch.arange(50) < 20  # each resample's hits are Binomial(50, 0.4)
    interval = difference_interval(hits, torch.zeros(50))
    assert float(interval.mean) == pytest.approx(0.4)
    low, high = binom.ppf([0.025, 0.975], 50, 0.4) / 50
    assert float(interval.low) == pytest.approx(low, abs=0.021)
    assert float(interval.high) == pytest.approx(high, abs=0.021)


def test_covers_the_true_mean_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        interval = mean_interval(draw(seed, 60), seed=seed)
        covered += bool(interval.low <= 0 <= interval.high)
    assert 0.89 <= covered / 200 <= 0.985


def test_methods_are_compared_in_pairs() -> None:
    hard = 10 * draw(0, 300)  # images differ far more than the methods
    first, second = hard + 0.1 + 0.1 * draw(1, 300), hard
    interval = difference_interval(first, second)
    assert 0.05 < float(interval.low) < float(interval.mean) < float(interval.high) < 0.15
    means = resampled_means(torch.stack([first, second], 1))
    apart = resampled_means(first) - resampled_means(second)
    torch.testing.assert_close(means[:, 0] - means[:, 1], apart)
    expected = apart.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    torch.testing.assert_close(
        torch.stack([interval.low, interval.high]), expected, atol=1e-6, rtol=0
    )


def test_seed_decides() -> None:
    values = draw(0, 50)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_refuses_nan_nothing_and_other_images() -> None:
    with pytest.raises(ValueError, match=r"^Expected at least one image and no NaN\. Found 1 NaN"):
        mean_interval(torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match=r"^Expected at least one image .* shape \(0,\)\.$"):
        mean_interval(torch.empty(0))
    with pytest.raises(ValueError, match=r"^Expected values of the same images\."):
        difference_interval(torch.zeros(3), torch.zeros(4))


def test_interval_of_a_statistic_agrees_with_theory() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    found = statistic_interval(lambda images: values[images].mean(), 400)
    assert float(found.mean) == pytest.approx(float(values.mean()))
    spread = float(values.std()) / math.sqrt(400)
    assert float(found.high - found.low) == pytest.approx(2 * 1.96 * spread, rel=0.2)


def test_interval_of_a_statistic_leaves_undefined_draws_out() -> None:
    values = torch.tensor([1.0, math.nan])
    found = statistic_interval(lambda images: values[images].mean(), 2)
    assert (float(found.low), float(found.high)) == (1, 1)
    assert statistic_interval(lambda images: values[1], 2).high.isnan()


def test_groups_are_drawn_as_a_whole() -> None:
    values, groups = (
        draw(0, 17, 2),
        torch.tensor([5, 5, 5, 2, 2, 9, 9, 9, 9, 2, 5, 7, 7, 7, 8, 8, 8]),
    )
    generator = torch.Generator().manual_seed(5)
    names = [2, 5, 7, 8, 9]
    loop = []
    for _ in range(40):
        drawn = torch.randint(5, (5,), generator=generator).tolist()
        images = torch.cat([values[groups == names[place]] for place in drawn])
        loop.append(images.double().mean(0))
    found = resampled_means(values, groups=groups, resamples=40, seed=5)
    torch.testing.assert_close(found, torch.stack(loop))


def test_copies_of_an_image_tell_no_more_than_the_image() -> None:
    values = draw(1, 50)
    copied, groups = values.repeat(8), torch.arange(50).repeat(8)
    alone = mean_interval(values)
    grouped = mean_interval(copied, groups=groups)
    for found, expected in zip(grouped, alone, strict=True):
        torch.testing.assert_close(found, expected)
    careless = mean_interval(copied)
    assert careless.high - careless.low < 0.5 * (grouped.high - grouped.low)


def test_hits_of_groups_get_wilsons_interval_of_as_many_trials() -> None:
    hits, groups = torch.ones(60), torch.arange(60) // 6
    reference = binomtest(10, 10).proportion_ci(0.95, method="wilson")
    interval = mean_interval(hits, groups=groups, shares=True)
    assert float(interval.low) == pytest.approx(reference.low, abs=1e-9)
