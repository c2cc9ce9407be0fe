"""What an evaluation found: per-image values of every method, on the same images."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from saliency_vae.metrics.bootstrap import Interval, mean_interval


@dataclass(frozen=True)
class Quality:
    """A metric of the ranking table.

    Attributes:
        title: Column heading.
        short: The same where there is little room.
        higher_is_better: Direction.
        explanation: What it measures, one sentence.
    """

    title: str
    short: str
    higher_is_better: bool
    explanation: str


QUALITIES: dict[str, Quality] = {
    "insertion": Quality(
        "Insertion AUC",
        "ins",
        True,
        "Probability of the predicted class while pixels are put into the baseline, most salient "
        "first; area under the curve.",
    ),
    "deletion": Quality(
        "Deletion AUC", "del", False, "The same while pixels are taken away from the image."
    ),
    "agreement_5": Quality(
        "Agreement 5 %",
        "5 %",
        True,
        "Images whose decision stays when only 5 % of the pixels are kept.",
    ),
    "agreement_10": Quality("Agreement 10 %", "10 %", True, "The same with 10 % kept."),
    "agreement_20": Quality("Agreement 20 %", "20 %", True, "The same with 20 % kept."),
    "pointing_game": Quality(
        "Pointing game", "point", True, "Images whose most salient pixel lies on the true object."
    ),
    "iou": Quality(
        "IoU",
        "IoU",
        True,
        "Intersection over union of the true mask and as many most salient pixels.",
    ),
    "relevance_mass": Quality(
        "Relevance mass", "mass", True, "Share of positive saliency on the mask."
    ),
    "relevance_rank": Quality(
        "Relevance rank",
        "rank",
        True,
        "Share of the most salient pixels, as many as the mask has, on it.",
    ),
    "sparsity": Quality(
        "Sparsity", "Gini", True, "Gini index of the map; a property, not a merit."
    ),
    "infidelity": Quality("Infidelity", "infid", False, "Captum's, noise perturbation."),
    "sensitivity": Quality("Max-sensitivity", "sens", False, "Captum's: change under small noise."),
}


@dataclass
class Results:
    """Values of methods on the same images.

    Attributes:
        values: Metric, then method, to per-image values (N,).
        curves: ``insertion`` or ``deletion``, then method, to curves (N, steps + 1).
        seconds: Method to seconds an image.
        memory: Method to the peak of tensor memory in bytes, an image.
        uncertainty: Findings about uncertainty by name: plain numbers and lists.
        about: How it was found: command, versions, hardware, N, seeds.
        left_out: What could not be measured, and why.
    """

    values: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    curves: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    uncertainty: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order they were measured."""
        return list(self.seconds)

    def interval(self, metric: str, method: str) -> Interval:
        """Mean over the images and its 95 % bootstrap interval."""
        return mean_interval(self.values[metric][method], seed=self.about["seed"])

    def best(self, metric: str, *, among: list[str]) -> str:
        """Method of the best mean."""
        sign = 1 if QUALITIES[metric].higher_is_better else -1
        return max(among, key=lambda method: sign * float(self.values[metric][method].mean()))

    def save(self, directory: Path) -> None:
        """Write ``metrics.csv``, ``metrics.json`` and ``curves.npz``."""
        rows = [
            {
                "method": method,
                "metric": metric,
                **{k: float(v) for k, v in self.interval(metric, method)._asdict().items()},
            }
            for metric in self.values
            for method in self.values[metric]
        ]
        rows += [
            {"method": method, "metric": name, "mean": value, "low": "", "high": ""}
            for name, by_method in (("seconds", self.seconds), ("memory", self.memory))
            for method, value in by_method.items()
        ]
        with (directory / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["method", "metric", "mean", "low", "high"])
            writer.writeheader()
            writer.writerows(rows)
        found = {
            "about": self.about,
            "metrics": rows,
            "uncertainty": self.uncertainty,
            "left_out": self.left_out,
        }
        (directory / "metrics.json").write_text(json.dumps(found, indent=2) + "\n")
        arrays = {
            f"{kind}/{method}": curve.numpy()
            for kind, by_method in self.curves.items()
            for method, curve in by_method.items()
        }
        values = {
            f"values/{metric}/{method}": value.numpy()
            for metric, by_method in self.values.items()
            for method, value in by_method.items()
        }
        np.savez_compressed(directory / "curves.npz", allow_pickle=False, **arrays, **values)
