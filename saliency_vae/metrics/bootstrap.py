"""How much a mean over images would vary with other images: the paired bootstrap.

Of hits and misses the interval is Wilson's: the bootstrap of a hit in every image has no width.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

_DRAWS = 2**22  # in memory at once


class Interval(NamedTuple):
    """A mean over images and its interval, each of the shape of one image's values."""

    mean: Tensor
    low: Tensor
    high: Tensor


def resampled_means(values: Tensor, *, resamples: int = 2000, seed: int = 0) -> Tensor:
    """Mean over images drawn with replacement, many times.

    The same number of images and seed draw the same images: so two methods are compared in pairs.

    Args:
        values: Per image, (N, ...).
        resamples: Number of draws of N images.
        seed: Of the draws.

    Returns:
        (resamples, ...) float64, on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    images = values.detach().cpu().double()
    number, flat = len(images), images.flatten(1) if images.ndim > 1 else images[:, None]
    means = []
    block = max(1, _DRAWS // number)
    for start in range(0, resamples, block):
        shape = min(block, resamples - start), number
        drawn = torch.randint(number, shape, generator=generator)
        times = torch.zeros(shape, dtype=torch.float64)
        times.scatter_add_(1, drawn, torch.ones_like(times))
        means.append(times @ flat / number)
    return torch.cat(means).view(resamples, *values.shape[1:])


def mean_interval(
    values: Tensor, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Interval of the mean over images: the bootstrap's percentiles; Wilson's of hits and misses.

    Args:
        values: Per image, (N, ...), N >= 1, no NaN. A column whose values are all 0 or 1 is of hits
            and misses.
        level: Of confidence, in (0, 1).
        resamples: Number of bootstrap resamples.
        seed: Of the resamples.

    Raises:
        ValueError: If there is no image or a value is NaN.
    """
    mean, low, high = _percentiles(values, level, resamples, seed)
    hits = ((values == 0) | (values == 1)).all(0).cpu()
    share = wilson_interval(mean, len(values), level=level)
    return Interval(mean, torch.where(hits, share.low, low), torch.where(hits, share.high, high))


def wilson_interval(share: Tensor, number: int, *, level: float = 0.95) -> Interval:
    """Interval of a probability by the share of hits (Wilson 1927).

    Args:
        share: Of hits, in [0, 1], (...) float64.
        number: Of trials.
        level: Of confidence, in (0, 1).
    """
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = (share + z2 / (2 * number)) / (1 + z2 / number)
    variance = share * (1 - share) / number + z2 / (4 * number**2)
    half = (z2 * variance).sqrt() / (1 + z2 / number)
    low, high = centre - half, centre + half  # the share lies between them, but for rounding
    return Interval(share, low.minimum(share).clamp_min(0), high.maximum(share).clamp_max(1))


def difference_interval(
    first: Tensor, second: Tensor, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Interval of the difference of two methods' means over the same resampled images.

    Always the bootstrap's: a difference that is 0 or 1 in these images could be -1 in others.

    Args:
        first: Per image, (N, ...).
        second: Of the same images in the same order, same shape.
        level: Of confidence, in (0, 1).
        resamples: Number of bootstrap resamples.
        seed: Of the resamples.

    Raises:
        ValueError: If the shapes differ, there is no image or a value is NaN.
    """
    if first.shape != second.shape:
        raise ValueError(
            "Expected values of the same images. "
            f"Found shapes {tuple(first.shape)} and {tuple(second.shape)}."
        )
    difference = first.double() - second.double()  # the mean of differences, resample by resample
    return _percentiles(difference, level, resamples, seed)


def statistic_interval(
    statistic: Callable[[Tensor], Tensor], number: int, *, resamples: int = 500, seed: int = 0
) -> Interval:
    """95 % percentile interval of any statistic of resampled images.

    Args:
        statistic: Maps indices of images, (number,), to a scalar; draws for which it is NaN are
            left out.
        number: Of images.
        resamples: Number of bootstrap resamples.
        seed: Of the resamples.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = [
        statistic(torch.randint(number, (number,), generator=generator)) for _ in range(resamples)
    ]
    values = torch.stack(draws).double()
    tails = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = values[~values.isnan()].quantile(tails)
    return Interval(statistic(torch.arange(number)).double(), low, high)


def _percentiles(values: Tensor, level: float, resamples: int, seed: int) -> Interval:
    if len(values) == 0 or values.isnan().any():
        raise ValueError(
            f"Expected at least one image and no NaN. Found {int(values.isnan().sum())} NaN "
            f"among values of shape {tuple(values.shape)}."
        )
    means = resampled_means(values, resamples=resamples, seed=seed)
    tail = (1 - level) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return Interval(values.detach().cpu().double().mean(0), low, high)
