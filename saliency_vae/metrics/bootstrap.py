"""95 % confidence intervals of means over images, by the paired bootstrap.

Means of hits and misses get Wilson's interval: if every image is a hit, the bootstrap interval has
no width. Images of one group, such as photographs of one object, are drawn together.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

_TAILS = (0.025, 0.975)  # ends of a 95 % interval, as quantiles
_RESAMPLES = 2000  # for means
_STATISTIC_RESAMPLES = 500  # for other statistics, which are recomputed on each resample
_DRAWS = 2**22  # image indices in memory at once


class Interval(NamedTuple):
    """Mean over images and its confidence interval, each shaped like the values of one image."""

    mean: Tensor
    low: Tensor
    high: Tensor


def resampled_means(
    values: Tensor, *, groups: Tensor | None = None, resamples: int = _RESAMPLES, seed: int = 0
) -> Tensor:
    """Bootstrap means: means over images that are drawn with replacement, many times.

    The draws depend only on the seed and the number of images or groups, so comparisons of two
    methods are paired.

    Args:
        values: Values of each image, (N, ...).
        groups: Group of each image, (N,) int64, resampled as a whole; None to resample images.
        resamples: Number of resamples. Each draws as many images, or groups, as there are.
        seed: Seed of the draws.

    Returns:
        Means, (resamples, ...) float64, on the CPU.

    Example:
        >>> resampled_means(torch.tensor([2.0, 2.0, 2.0]), resamples=2)
        tensor([2., 2.], dtype=torch.float64)
    """
    images = values.detach().cpu().double()
    total, size = _by_group(images.flatten(1) if images.ndim > 1 else images[:, None], groups)
    number = len(total)
    generator = torch.Generator().manual_seed(seed)
    means = []
    block = max(1, _DRAWS // number)
    for start in range(0, resamples, block):
        shape = min(block, resamples - start), number
        drawn = torch.randint(number, shape, generator=generator)
        times = torch.zeros(shape, dtype=torch.float64)
        times.scatter_add_(1, drawn, torch.ones_like(times))
        means.append((times @ total) / (times @ size)[:, None])
    return torch.cat(means).view(resamples, *values.shape[1:])


def _by_group(values: Tensor, groups: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum of the values (N, n) over each group, and number of images in each group."""
    if groups is None:
        return values, torch.ones(len(values), dtype=values.dtype)
    _, place = torch.unique(groups.cpu(), return_inverse=True)
    number = int(place.max()) + 1 if len(place) else 0
    total = values.new_zeros(number, values.shape[1]).index_add_(0, place, values)
    return total, values.new_zeros(number).index_add_(0, place, values.new_ones(len(values)))


def mean_interval(
    values: Tensor, *, groups: Tensor | None = None, shares: bool = False, seed: int = 0
) -> Interval:
    """95 % interval of the mean over images: bootstrap percentiles, or Wilson's interval.

    Args:
        values: Values of each image, (N, ...), N >= 1, no NaN.
        groups: Group of each image, (N,) int64, resampled as a whole; None to resample images.
        shares: Whether the means are hit rates. Columns that hold only 0 and 1 then get Wilson's
            interval, with one trial per image, or per group.
        seed: Seed of the resamples.

    Raises:
        ValueError: If there is no image or a value is NaN.

    Example:
        >>> hits = torch.tensor([True, True, True, False])
        >>> interval = mean_interval(hits, shares=True)
        >>> [round(float(value), 2) for value in interval]
        [0.75, 0.3, 0.95]
    """
    mean, low, high = _percentiles(values, groups, seed)
    if not shares:
        return Interval(mean, low, high)
    hits = ((values == 0) | (values == 1)).all(0).cpu()
    trials = len(values) if groups is None else len(torch.unique(groups))
    share = wilson_interval(mean, trials)
    return Interval(mean, torch.where(hits, share.low, low), torch.where(hits, share.high, high))


def wilson_interval(share: Tensor, number: int) -> Interval:
    """95 % interval of a probability, given the share of hits (Wilson 1927).

    Args:
        share: Share of hits, in [0, 1], (...) float64.
        number: Number of trials.

    Example:
        >>> interval = wilson_interval(torch.tensor(1.0), 10)
        >>> [round(float(value), 2) for value in interval]
        [1.0, 0.72, 1.0]
    """
    z2 = NormalDist().inv_cdf(_TAILS[1]) ** 2
    centre = (share + z2 / (2 * number)) / (1 + z2 / number)
    variance = share * (1 - share) / number + z2 / (4 * number**2)
    half = (z2 * variance).sqrt() / (1 + z2 / number)
    low, high = centre - half, centre + half  # they enclose the share, up to rounding
    return Interval(share, low.minimum(share).clamp_min(0), high.maximum(share).clamp_max(1))


def difference_interval(
    first: Tensor, second: Tensor, *, groups: Tensor | None = None, seed: int = 0
) -> Interval:
    """95 % interval of the difference of two methods' means over the same images.

    It is always the bootstrap interval, never Wilson's: even if all differences are 0 or 1 in these
    images, they could be -1 in others.

    Args:
        first: Values of each image for the first method, (N, ...).
        second: Values for the second method, of the same images in the same order.
        groups: Group of each image, (N,) int64, resampled as a whole; None to resample images.
        seed: Seed of the resamples.

    Raises:
        ValueError: If the shapes differ, there is no image or a value is NaN.

    Example:
        >>> scores = torch.rand(50)
        >>> interval = difference_interval(scores + 0.1, scores)
        >>> [round(float(value), 3) for value in interval]
        [0.1, 0.1, 0.1]
    """
    if first.shape != second.shape:
        raise ValueError(
            "Expected values of the same images. "
            f"Found shapes {tuple(first.shape)} and {tuple(second.shape)}."
        )
    difference = first.double() - second.double()  # resampled in pairs
    return _percentiles(difference, groups, seed)


def statistic_interval(
    statistic: Callable[[Tensor], Tensor],
    number: int,
    *,
    groups: Tensor | None = None,
    seed: int = 0,
) -> Interval:
    """95 % bootstrap interval of any statistic of the images.

    Args:
        statistic: Function from the indices of the drawn images, (n,), to a scalar. Resamples where
            it is NaN are ignored; if all are NaN, so are the ends of the interval.
        number: Number of images.
        groups: Group of each image, (number,) int64, resampled as a whole; None to resample images.
        seed: Seed of the resamples.

    Returns:
        Statistic over all images, in the field ``mean``, and its interval.

    Example:
        >>> scores = torch.arange(101.0)
        >>> interval = statistic_interval(lambda images: scores[images].median(), 101)
        >>> float(interval.mean), bool(interval.low < 50 < interval.high)
        (50.0, True)
    """
    generator = torch.Generator().manual_seed(seed)
    members = (
        None if groups is None else [(groups == g).nonzero()[:, 0] for g in torch.unique(groups)]
    )

    def draw() -> Tensor:
        drawn = number if members is None else len(members)
        chosen = torch.randint(drawn, (drawn,), generator=generator)
        return chosen if members is None else torch.cat([members[g] for g in chosen.tolist()])

    draws = [statistic(draw()) for _ in range(_STATISTIC_RESAMPLES)]
    values = torch.stack(draws).double()
    low, high = values.nanquantile(torch.tensor(_TAILS, dtype=torch.float64))
    return Interval(statistic(torch.arange(number)).double(), low, high)


def _percentiles(values: Tensor, groups: Tensor | None, seed: int) -> Interval:
    """Percentile bootstrap interval of the mean over images."""
    if len(values) == 0 or values.isnan().any():
        raise ValueError(
            f"Expected at least one image and no NaN. Found {int(values.isnan().sum())} NaN "
            f"among values of shape {tuple(values.shape)}."
        )
    means = resampled_means(values, groups=groups, seed=seed)
    low, high = means.quantile(torch.tensor(_TAILS, dtype=torch.float64), dim=0)
    return Interval(values.detach().cpu().double().mean(0), low, high)
