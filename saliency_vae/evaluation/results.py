"""Results of an evaluation, and the files that their numbers are saved to."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from saliency_vae.evaluation.rank_reversals import RankReversals, rank_reversals
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.verdicts import Comparison
from saliency_vae.metrics import Interval


@dataclass(frozen=True)
class Results:
    """Everything that an evaluation found.

    Attributes:
        scores: Scores of all methods.
        comparison: Verdicts on the explainer.
        uncertainty: How good the explainer's uncertainty is.
        run_metadata: How the results were made: command, versions, hardware and so on.
    """

    scores: Scores
    comparison: Comparison = field(default_factory=Comparison)
    uncertainty: UncertaintyReport = field(default_factory=UncertaintyReport)
    run_metadata: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def rank_reversals(self) -> RankReversals:
        """How far the order of the methods depends on the baseline image."""
        return rank_reversals(self.scores)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was not measured and why, one sentence each."""
        parts = (self.scores, self.comparison, self.uncertainty)
        return tuple(line for part in parts for line in part.left_out)

    def save(self, directory: Path) -> None:
        """Write ``metrics.csv``, ``metrics.json`` and ``curves.npz``.

        Raises:
            ValueError: If a number is NaN or infinite, which JSON does not allow.
        """
        scores, rows = self.scores, _rows(self.scores)
        with (directory / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        found = {
            "run_metadata": dict(self.run_metadata),
            "roles": dict(scores.roles),
            "verdicts": [asdict(verdict) for verdict in self.comparison.verdicts],
            "metrics": rows,
            "rank_reversals": _reversals(self.rank_reversals),
            "uncertainty": _uncertainty(self.uncertainty),
            "left_out": list(self.left_out),
        }
        text = json.dumps(found, indent=2, allow_nan=False)
        (directory / "metrics.json").write_text(text + "\n")
        values = {f"values/{metric}": by_method for metric, by_method in scores.values.items()}
        arrays = {
            f"{kind}/{method}": array.numpy()
            for kind, by_method in {**scores.curves, **values}.items()
            for method, array in by_method.items()
        }
        np.savez_compressed(directory / "curves.npz", allow_pickle=False, **arrays)


def _rows(scores: Scores) -> list[dict[str, Any]]:
    """One row for each method and metric."""
    rows = [
        {
            "method": method,
            "metric": metric,
            **_plain(interval),
            "images": len(scores.values[metric][method]),
        }
        for metric, by_method in scores.intervals.items()
        for method, interval in by_method.items()
    ]
    costs = {"passes": scores.passes, "seconds": scores.seconds, "bytes": scores.memory}
    return rows + [
        {"method": method, "metric": cost, "mean": value, "low": "", "high": "", "images": ""}
        for cost, by_method in costs.items()
        for method, value in by_method.items()
    ]


def _reversals(found: RankReversals) -> dict[str, Any]:
    return {
        "metric": found.metric,
        "pairs": found.pairs,
        "reversals": [
            {"methods": each.methods, "removals": each.baselines, "differences": each.differences}
            for each in found.reversals
        ],
        "kendall_tau": [{"removals": pair, "tau": tau} for pair, tau in found.tau.items()],
    }


def _uncertainty(report: UncertaintyReport) -> dict[str, Any]:
    return {
        "verdicts": [asdict(verdict) for verdict in report.verdicts],
        "metrics": [
            {"uncertainty": name, "role": report.roles[name], "metric": metric, **_plain(interval)}
            for metric, by_name in report.intervals.items()
            for name, interval in by_name.items()
        ],
        "curves": report.curves,
    }


def _plain(interval: Interval) -> dict[str, float]:
    return {name: float(value) for name, value in interval._asdict().items()}
