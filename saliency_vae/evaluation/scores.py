"""Scores of methods, image by image: what a comparison of them rests on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.roles import Role
from saliency_vae.metrics import Interval, difference_interval, mean_interval

_DIFFERENCES = {"own_mask"}  # differences of shares: a 0 in every image does not count misses

Values = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Scores:
    """Scores of several methods on the same images.

    Attributes:
        values: Metric, then method, to the score of each image, (N,).
        curves: Curve, such as ``insertion`` or ``deletion_mean``, then method, to the curve of each
            image, (N, points).
        seconds: Method to the time of an explanation, seconds per image.
        memory: Method to the peak of tensor memory, bytes, for one image.
        roles: Method to its role.
        left_out: What was not measured and why, one sentence each.
        seed: Seed of the bootstrap.

    Example:
        >>> scores = Scores(
        ...     values={"deletion": {"rise": torch.tensor([0.2, 0.4]), "random": torch.ones(2)}},
        ...     seconds={"rise": 0.1, "random": 0.001},
        ...     roles={"rise": Role.RIVAL, "random": Role.CONTROL},
        ... )
        >>> scores.best("deletion"), round(scores.mean("deletion", "rise"), 3)
        ({'rise'}, 0.3)
    """

    values: Values = field(default_factory=dict)
    curves: Values = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    seed: int = 0

    def extended(self, values: Values | None = None, *, left_out: Iterable[str] = ()) -> "Scores":
        """Add metrics, or what was not measured.

        Args:
            values: Further metrics, then method, to the score of each image; the images may be
                fewer.
            left_out: What was not measured and why, one sentence each.
        """
        return replace(
            self,
            values={**self.values, **(values or {})},
            left_out=(*self.left_out, *left_out),
        )

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order in which they were measured."""
        return list(self.seconds)

    @property
    def rivals(self) -> list[str]:
        """Names of the methods that an explainer has to beat: controls too, but no oracle."""
        return [m for m in self.methods if self.roles[m] in (Role.RIVAL, Role.CONTROL)]

    @property
    def images(self) -> int:
        """Number of images."""
        return max((len(v) for by in self.values.values() for v in by.values()), default=0)

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Metric, then method, to the mean over images and its 95 % interval."""
        return {
            metric: dict(zip(by_method, self._intervals(metric), strict=True))
            for metric, by_method in self.values.items()
        }

    def _intervals(self, metric: str) -> list[Interval]:
        values = torch.stack(list(self.values[metric].values()), dim=1)  # the same resamples
        found = (
            difference_interval(values, torch.zeros_like(values), seed=self.seed)
            if metric in _DIFFERENCES
            else mean_interval(values, seed=self.seed)
        )
        return [Interval(*numbers) for numbers in zip(*found, strict=True)]

    def mean(self, metric: str, method: str) -> float:
        """Mean of a metric over the images."""
        return float(self.values[metric][method].double().mean())

    def best(self, metric: str) -> set[str]:
        """Methods with the best mean, oracles apart; none if no direction is better."""
        higher_is_better = metric_info(metric).higher_is_better
        means = {
            method: self.mean(metric, method)
            for method in self.values[metric]
            if self.roles[method] is not Role.ORACLE
        }
        if higher_is_better is None or not means:
            return set()
        best = max(means.values()) if higher_is_better else min(means.values())
        return {method for method, mean in means.items() if mean == best}

    def ranking(self) -> list[str]:
        """Names of the methods, highest insertion AUC first."""
        return sorted(self.methods, key=lambda method: -self.mean("insertion", method))
