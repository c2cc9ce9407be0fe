"""Rank reversals: methods whose order depends on the baseline image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations

import torch
from torchmetrics.functional import kendall_rank_corrcoef

from saliency_vae.evaluation.measured_baselines import (
    baseline_name,
    faithfulness,
    further_baselines,
)
from saliency_vae.evaluation.metric_info import over
from saliency_vae.evaluation.resampling import LEAST_IMAGES
from saliency_vae.evaluation.roles import EXPLAINER, Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.verdicts import judge
from saliency_vae.evaluation.wording import short, title
from saliency_vae.metrics import Interval

Pair = tuple[str, str]
Bounds = tuple[float, float, float]  # mean, lower and upper bound of a difference


@dataclass(frozen=True)
class Reversal:
    """Two methods, each clearly better than the other over one of two baseline images.

    Attributes:
        methods: Names of the two methods.
        baselines: Display names of two baseline images: the first method is better over the first,
            the second method over the second.
        differences: First method's value minus the second's over each of the two, as mean, lower
            and upper bound of the paired 95 % interval.
    """

    methods: Pair
    baselines: Pair
    differences: tuple[Bounds, Bounds]

    def __str__(self) -> str:
        first, second = map(title, self.methods)
        better = (first, second)
        parts = [
            f"over {baseline}, {name} is better by {_in_words(bounds)}"
            for baseline, name, bounds in zip(self.baselines, better, self.differences, strict=True)
        ]
        return f"{first} and {second}: {'; '.join(parts)}."

    @property
    def size(self) -> float:
        """Smaller of the two absolute differences."""
        return min(abs(mean) for mean, _, _ in self.differences)


@dataclass(frozen=True)
class RankReversals:
    """How far the order of the methods depends on the baseline image.

    Attributes:
        metric: Metric that orders the methods, ``srg`` or ``insertion``.
        pairs: Number of pairs of methods that were compared.
        reversals: Clearest reversal of each pair of methods that has any: first those of the
            evaluated explainer, then those of further explainers, each with the largest first.
        tau: Display names of two baseline images, to Kendall's tau-b between the orders of the
            methods over them; 1 is the same order, -1 the reverse.
    """

    metric: str = "insertion"
    pairs: int = 0
    reversals: tuple[Reversal, ...] = ()
    tau: Mapping[Pair, float] = field(default_factory=dict)


def rank_reversals(scores: Scores) -> RankReversals:
    """Compare the orders of the methods over all baseline images; oracles do not take part.

    A pair is compared on the images that both methods are scored on, at least ten. Pairs of two
    controls are skipped. The intervals are not corrected for the number of pairs.

    Args:
        scores: Scores over one baseline image or several; over one there is nothing to compare.
    """
    kind = faithfulness(scores)
    baselines = ["", *further_baselines(scores)]
    metrics = {baseline: over(kind, baseline) for baseline in baselines}
    metrics = {baseline: metric for baseline, metric in metrics.items() if metric in scores.values}
    methods = [
        method
        for method in scores.methods
        if scores.roles[method] is not Role.ORACLE
        and all(method in scores.values[metric] for metric in metrics.values())
    ]
    if len(metrics) < 2 or len(methods) < 2:
        return RankReversals(kind)
    named = {baseline_name(scores, baseline): metric for baseline, metric in metrics.items()}
    pairs = [
        pair
        for pair in combinations(methods, 2)
        if any(scores.roles[method] is not Role.CONTROL for method in pair)
    ]
    differences = {name: _differences(scores, metric, pairs) for name, metric in named.items()}
    compared = [pair for pair in pairs if all(pair in of for of in differences.values())]
    found = (
        _clearest(pair, {name: of[pair] for name, of in differences.items()}) for pair in compared
    )
    reversals = sorted(filter(None, found), key=lambda reversal: _priority(scores, reversal))
    return RankReversals(kind, len(compared), tuple(reversals), _taus(scores, named, methods))


def _differences(scores: Scores, metric: str, pairs: Sequence[Pair]) -> dict[Pair, Interval]:
    """Paired differences of methods; pairs with the same number of images share resamples."""
    by_number: dict[int, list[Pair]] = {}
    for pair in pairs:
        number = min(scores.number(metric, method) for method in pair)
        by_number.setdefault(number, []).append(pair)
    resampling = scores.resampling(metric)
    found: dict[Pair, Interval] = {}
    for number, group in by_number.items():
        if resampling.independent(number) >= LEAST_IMAGES:
            values = [scores.paired(metric, *pair) for pair in group]
            first, second = (torch.stack(side, dim=1) for side in zip(*values, strict=True))
            columns = zip(*resampling.difference(first, second), strict=True)
            found |= {pair: Interval(*column) for pair, column in zip(group, columns, strict=True)}
    return found


def _clearest(pair: Pair, differences: Mapping[str, Interval]) -> Reversal | None:
    """Clearest reversal of a pair, given its differences by baseline image."""
    judged = {name: judge(difference) for name, difference in differences.items()}
    found = [
        Reversal(pair, (one, other), (_bounds(differences[one]), _bounds(differences[other])))
        for one, other in permutations(differences, 2)
        if judged[one] == "better" and judged[other] == "worse"
    ]
    return max(found, key=lambda reversal: reversal.size, default=None)


def _bounds(difference: Interval) -> Bounds:
    mean, low, high = map(float, difference)
    return mean, low, high


def _priority(scores: Scores, reversal: Reversal) -> tuple[bool, bool, float]:
    explainers = [scores.roles[method] is Role.EXPLAINER for method in reversal.methods]
    return EXPLAINER not in reversal.methods, not any(explainers), -reversal.size


def _taus(scores: Scores, metrics: Mapping[str, str], methods: Sequence[str]) -> dict[Pair, float]:
    """Kendall's tau-b for each pair of baseline images, over the methods scored on all images."""
    complete = [
        method
        for method in methods
        if all(scores.is_complete(metric, method) for metric in metrics.values())
    ]
    means = {
        name: torch.tensor([scores.mean(metric, method) for method in complete])
        for name, metric in metrics.items()
    }
    # A ranking in which all methods are equal has no correlation with any other.
    ordered = {name: values for name, values in means.items() if bool((values != values[:1]).any())}
    return {
        (one, other): float(torch.as_tensor(kendall_rank_corrcoef(ordered[one], ordered[other])))
        for one, other in combinations(ordered, 2)
    }


def _in_words(bounds: Bounds) -> str:
    mean, *ends = map(abs, bounds)
    low, high = sorted(ends)
    return f"{short(mean)} [{short(low)}, {short(high)}]"
