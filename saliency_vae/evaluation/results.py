"""What an evaluation found: values of every method for each image, the images being the same."""

import csv
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.metrics import Interval, difference_interval, mean_interval

_DIFFERENCES = {"own_mask"}  # of shares: 0 in every image is no count of hits

Verdict = Literal["better", "level", "worse", "note"]


@dataclass(frozen=True)
class Finding:
    """One sentence that says what was found.

    Attributes:
        verdict: On ours; ``note`` where nothing is compared.
        text: The sentence, its numbers included.
    """

    verdict: Verdict
    text: str


@dataclass
class Results:
    """Values of methods on the same images.

    Attributes:
        seed: Of the bootstrap.
        values: Metric, then method, to its values per image, (N,).
        curves: Such as ``insertion`` and ``deletion_mean``, then method, to curves (N, points).
        seconds: Method to seconds an image.
        memory: Method to the peak of tensor memory in bytes, one image.
        controls: Methods that need no classifier, or are blurred: what any method must beat.
        oracles: Methods that know the true masks: no rivals.
        findings: Where ours stands.
        uncertainty_findings: What ours is worth as an uncertainty.
        uncertainty: Metric, then uncertainty or control, to its interval over images.
        uncertainty_curves: Points of the figures on it, by figure and line.
        about: How it was found: command, versions, hardware and so on.
        left_out: What could not be measured, and why.
    """

    seed: int = 0
    values: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    curves: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    controls: set[str] = field(default_factory=set)
    oracles: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    uncertainty_findings: list[Finding] = field(default_factory=list)
    uncertainty: dict[str, dict[str, Interval]] = field(default_factory=dict)
    uncertainty_curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order they were measured."""
        return list(self.seconds)

    @property
    def images(self) -> int:
        """Number of images."""
        return max((len(v) for by in self.values.values() for v in by.values()), default=0)

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Metric, then method, to the mean over images and its 95 % interval.

        Computed when first asked for: after everything is measured.
        """
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
        """Methods of the best mean, oracles apart; none where nothing is better or worse."""
        higher_is_better = metric_info(metric).higher_is_better
        means = {m: self.mean(metric, m) for m in self.values[metric] if m not in self.oracles}
        if higher_is_better is None or not means:
            return set()
        best = max(means.values()) if higher_is_better else min(means.values())
        return {method for method, mean in means.items() if mean == best}

    def ranking(self) -> list[str]:
        """Methods, best insertion first."""
        return sorted(self.methods, key=lambda method: -self.mean("insertion", method))

    def save(self, directory: Path) -> None:
        """Write ``metrics.csv``, ``metrics.json`` and ``curves.npz``."""
        rows = self._rows()
        with (directory / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        found = {
            "about": self.about,
            "findings": [asdict(finding) for finding in self.findings],
            "metrics": rows,
            "uncertainty": {
                "findings": [asdict(finding) for finding in self.uncertainty_findings],
                "metrics": [
                    {"uncertainty": name, "metric": metric, **_plain(interval)}
                    for metric, by_name in self.uncertainty.items()
                    for name, interval in by_name.items()
                ],
                "curves": self.uncertainty_curves,
            },
            "left_out": self.left_out,
        }
        text = json.dumps(found, indent=2, allow_nan=False)
        (directory / "metrics.json").write_text(text + "\n")
        arrays = {
            f"{kind}/{method}": values.numpy()
            for kind, by_method in (self.curves | _prefixed(self.values)).items()
            for method, values in by_method.items()
        }
        np.savez_compressed(directory / "curves.npz", allow_pickle=False, **arrays)

    def _rows(self) -> list[dict[str, Any]]:
        """One row for each method and metric."""
        rows = [
            {
                "method": method,
                "metric": metric,
                **_plain(interval),
                "images": len(self.values[metric][method]),
            }
            for metric, by_method in self.intervals.items()
            for method, interval in by_method.items()
        ]
        costs = {"seconds": self.seconds, "bytes": self.memory}
        return rows + [
            {"method": method, "metric": cost, "mean": value, "low": "", "high": "", "images": ""}
            for cost, by_method in costs.items()
            for method, value in by_method.items()
        ]


def _plain(interval: Interval) -> dict[str, float]:
    return {name: float(value) for name, value in interval._asdict().items()}


def _prefixed(values: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    return {f"values/{metric}": by_method for metric, by_method in values.items()}
