"""Per-image scores of methods, from which they are compared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from saliency_vae.evaluation.metric_info import is_agreement, metric_info
from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.roles import Role
from saliency_vae.metrics import Interval

_AGREEMENT = "agreement_"

Values = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Scores:
    """Scores of several methods on the same images.

    Attributes:
        values: Metric, then method, to the score of each image, or of each question of a pointing
            game, (N,). Slow metrics and methods may have scores of only the first ones.
        curves: Curve, such as ``insertion`` or ``deletion_mean``, then method, to the curve of each
            image, (N, points).
        seconds: Method to its time in the fastest batch, seconds per image.
        memory: Method to its peak tensor memory for one image, bytes.
        passes: Method to its number of classifier passes for one image.
        seen: Names of the baseline images that the explainer was trained with; empty if unknown.
        classifier_seen: Explainer to whether its training used this classifier; empty if unknown.
        baseline: Name of the first baseline image, which names of metrics and curves omit; empty if
            unknown.
        roles: Method to its role.
        groups: Group of each image, (N,) int64, resampled as a whole for intervals; None if all
            images are independent.
        question_groups: Metric of a pointing game to the group of each question, (N,) int64.
        left_out: What was not measured and why, one sentence each.
        notes: Name of a measurement to how it was made.
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
    passes: Mapping[str, float] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    classifier_seen: Mapping[str, bool] = field(default_factory=dict)
    baseline: str = ""
    groups: Tensor | None = None
    question_groups: Mapping[str, Tensor] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def extended(
        self,
        values: Values | None = None,
        *,
        question_groups: Mapping[str, Tensor] | None = None,
        left_out: Iterable[str] = (),
        notes: Mapping[str, str] | None = None,
    ) -> "Scores":
        """Add metrics, what was not measured, or how something was measured.

        Args:
            values: Further metrics, then method, to the score of each image, or of only the first
                images.
            question_groups: Metric of a pointing game to the group of each question, (N,).
            left_out: What was not measured and why, one sentence each.
            notes: Name of a measurement to how it was made.
        """
        return replace(
            self,
            values={**self.values, **(values or {})},
            question_groups={**self.question_groups, **(question_groups or {})},
            left_out=(*self.left_out, *left_out),
            notes={**self.notes, **(notes or {})},
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
        """Number of images; grids and images of two objects, made of them, do not count."""
        scored = [self.values["insertion"]] if "insertion" in self.values else self.values.values()
        return max((len(v) for by_method in scored for v in by_method.values()), default=0)

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Metric, then method, to the mean over images and its 95 % interval."""
        return {metric: self._intervals(metric) for metric in self.values}

    def _intervals(self, metric: str) -> dict[str, Interval]:
        """Intervals of all methods; those with the same number of images share resamples."""
        by_method = self.values[metric]
        found: dict[str, Interval] = {}
        for number in {len(values) for values in by_method.values()}:
            methods = [method for method, values in by_method.items() if len(values) == number]
            values = torch.stack([by_method[method] for method in methods], dim=1)
            shares = metric_info(metric).is_share
            interval = self.resampling(metric).mean(values, shares=shares)
            columns = (Interval(*numbers) for numbers in zip(*interval, strict=True))
            found |= dict(zip(methods, columns, strict=True))
        return {method: found[method] for method in by_method}

    def resampling(self, metric: str = "") -> Resampling:
        """How the images of a metric, or the questions of a pointing game, are resampled."""
        return Resampling(self.seed, self.question_groups.get(metric, self.groups))

    def number(self, metric: str, method: str) -> int:
        """Number of images, or of questions, that a method is scored on by a metric."""
        return len(self.values[metric][method])

    def counted(self, metric: str, method: str) -> str:
        """:meth:`number` with its unit, such as ``12 images``."""
        unit = "questions" if metric in self.question_groups else "images"
        return f"{self.number(metric, method)} {unit}"

    def is_complete(self, metric: str, method: str) -> bool:
        """Whether a method is scored on as many images as any other."""
        return self.number(metric, method) == max(map(len, self.values[metric].values()))

    def paired(self, metric: str, first: str, second: str) -> tuple[Tensor, Tensor]:
        """Scores of two methods on the images that both are scored on, each (n,)."""
        values = self.values[metric]
        number = min(len(values[first]), len(values[second]))
        return values[first][:number], values[second][:number]

    @property
    def kept_percent(self) -> float:
        """Smallest share of kept pixels (per cent) at which most methods keep half the decisions.

        Most methods means at least half of the explainers and rivals. If no measured share
        suffices, it is the largest one.
        """
        shares = sorted(float(m.removeprefix(_AGREEMENT)) for m in self.values if is_agreement(m))
        judged = (Role.EXPLAINER, Role.RIVAL)
        methods = [m for m in self.methods if self.roles[m] in judged] or self.methods
        for share in shares:
            kept = [self.mean(f"{_AGREEMENT}{share:g}", method) >= 0.5 for method in methods]
            if sum(kept) * 2 >= len(kept):
                return share
        return shares[-1]

    def mean(self, metric: str, method: str) -> float:
        """Mean of a metric over the images."""
        return float(self.values[metric][method].double().mean())

    def best(self, metric: str) -> set[str]:
        """Methods with the best mean; none if the metric has no better direction.

        Oracles, and methods scored on fewer images than others, are excluded.
        """
        higher_is_better = metric_info(metric).higher_is_better
        means = {
            method: self.mean(metric, method)
            for method in self.values[metric]
            if self.roles[method] is not Role.ORACLE and self.is_complete(metric, method)
        }
        if higher_is_better is None or not means:
            return set()
        best = max(means.values()) if higher_is_better else min(means.values())
        return {method for method, mean in means.items() if mean == best}

    def ranking(self) -> list[str]:
        """Names of the methods, highest insertion AUC first."""
        return sorted(self.methods, key=lambda method: -self.mean("insertion", method))
