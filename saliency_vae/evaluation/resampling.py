"""Confidence intervals over images, some of which may belong to one group."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_vae.metrics import (
    Interval,
    difference_interval,
    mean_interval,
    statistic_interval,
)

LEAST_IMAGES = 10  # with fewer images, bootstrap intervals are far too narrow to judge by


@dataclass(frozen=True)
class Resampling:
    """How images are resampled; those of a group, such as views of one object, are drawn together.

    Methods that take n values take those of the first n images.

    Attributes:
        seed: Seed of the draws.
        groups: Group of each image, (N,) int64; None where all are independent.

    Example:
        >>> resampling = Resampling(groups=torch.tensor([0, 0, 1]))
        >>> resampling.independent(2), resampling.independent(3)
        (1, 2)
        >>> interval = resampling.mean(torch.tensor([1.0, 3.0, 2.0]))
        >>> [float(value) for value in interval]
        [2.0, 2.0, 2.0]
    """

    seed: int = 0
    groups: Tensor | None = None

    def some(self, chosen: Tensor) -> "Resampling":
        """Restrict to the chosen images, (N,) bool."""
        groups = self.groups_of(len(chosen))
        return Resampling(self.seed, None if groups is None else groups[chosen.cpu()])

    def independent(self, number: int) -> int:
        """Number of independent images or groups among the first images."""
        groups = self.groups_of(number)
        return number if groups is None else len(torch.unique(groups))

    def mean(self, values: Tensor, *, shares: bool = False) -> Interval:
        """Mean of values (n, ...), see :func:`mean_interval`."""
        groups = self.groups_of(len(values))
        return mean_interval(values, groups=groups, shares=shares, seed=self.seed)

    def difference(self, first: Tensor, second: Tensor) -> Interval:
        """Mean of paired differences of values (n, ...), see :func:`difference_interval`."""
        return difference_interval(first, second, groups=self.groups_of(len(first)), seed=self.seed)

    def statistic(self, statistic: Callable[[Tensor], Tensor], number: int) -> Interval:
        """Any statistic of the indices of the first images, see :func:`statistic_interval`."""
        return statistic_interval(statistic, number, groups=self.groups_of(number), seed=self.seed)

    def groups_of(self, number: int) -> Tensor | None:
        """Groups of the first images, on the CPU; None where all are independent."""
        return None if self.groups is None else self.groups[:number].cpu()
