"""What an evaluation found: values of every method for each image, the images being the same."""

import csv
import json
import re
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from saliency_vae.metrics.bootstrap import Interval, difference_interval, mean_interval


@dataclass(frozen=True)
class Quality:
    """A metric, as tables name it.

    Attributes:
        title: Column heading.
        short: The same where there is little room.
        higher_is_better: Direction; None for a property that is no merit.
        explanation: What it measures, one sentence.
    """

    title: str
    short: str
    higher_is_better: bool | None
    explanation: str

    @property
    def arrow(self) -> str:
        """Where the better values are."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


_QUALITIES: dict[str, Quality] = {
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
        "5%",
        True,
        "Share of the images whose decision stays when only 5 % of the pixels are kept.",
    ),
    "agreement_10": Quality("Agreement 10 %", "10%", True, "The same with 10 % kept."),
    "agreement_20": Quality("Agreement 20 %", "20%", True, "The same with 20 % kept."),
    "pointing_game": Quality(
        "Pointing game",
        "point",
        True,
        "Share of the images whose most salient pixel lies on the true object.",
    ),
    "iou": Quality(
        "IoU",
        "IoU",
        True,
        "Intersection over union of the true mask and as many most salient pixels.",
    ),
    "relevance_mass": Quality(
        "Relevance mass", "mass", True, "Share of the positive saliency that lies on the true mask."
    ),
    "relevance_rank": Quality(
        "Relevance rank",
        "rank",
        True,
        "Share of the true mask among as many most salient pixels.",
    ),
    "sparsity": Quality(
        "Sparsity", "Gini", None, "Gini index of the map: a property, not a merit."
    ),
    "own_mask": Quality(
        "Own mask",
        "own",
        True,
        "Agreement when 10 % are kept, less the agreement when the other images' masks are laid "
        "over the image: a mask that carries the class by its shape gains nothing.",
    ),
    "infidelity": Quality(
        "Infidelity",
        "infid",
        False,
        "Captum's: how far the map is from predicting what noise does to the probability.",
    ),
    "sensitivity": Quality(
        "Max-sensitivity",
        "sens",
        False,
        "Captum's: how much the map changes under noise too small to see.",
    ),
}
# On uncertainties, held against independent runs.
_QUALITIES |= {
    "spearman_top": Quality(
        "Spearman, top 10 %",
        "",
        True,
        "Whether the uncertain pixels are those wrongly taken for one of the top 10 %, or not; "
        "1 is perfect, 0 chance.",
    ),
    "ause_top": Quality(
        "AUSE, top 10 %",
        "",
        False,
        "Area between the sparsification curves of the uncertainty and of that error; 0 is "
        "perfect.",
    ),
    "spearman_rank": Quality(
        "Spearman, rank",
        "",
        True,
        "Whether the uncertain pixels are those whose rank is far off, which weighs the whole "
        "background; 1 is perfect, 0 chance.",
    ),
    "ause_rank": Quality("AUSE, rank", "", False, "The same area for the error of the rank."),
    "ece": Quality(
        "ECE",
        "",
        False,
        "Calibration error of the probability to be among the top 10 %; 0 is perfect.",
    ),
    "auroc": Quality(
        "AUROC of failure",
        "",
        True,
        "Whether the uncertain images are those that decide otherwise when 5 % of the pixels are "
        "kept; 1 is perfect, 0.5 chance.",
    ),
}
_DIFFERENCES = {"own_mask"}  # of shares: 0 in every image is no count of hits
_TITLES = {
    "grad_cam": "Grad-CAM",
    "input_x_gradient": "input x gradient",
    "rise": "RISE",
    "smoothgrad": "SmoothGrad",
    "vargrad": "VarGrad",
    "per_image": "per-image optimisation",
}


def quality(metric: str) -> Quality:
    """Describe a metric; ``insertion_zero`` is insertion over another baseline than the first."""
    if metric in _QUALITIES:
        return _QUALITIES[metric]
    kind, _, removal = metric.partition("_")
    removal = removal.replace("_", " ")
    of_first = _QUALITIES[kind]
    return replace(
        of_first,
        title=f"{of_first.title} ({removal})",
        short=f"{of_first.short} {removal}",
        explanation=f"{of_first.title} over the {removal} baseline.",
    )


def over_another_removal(metric: str) -> bool:
    """Whether a metric is insertion or deletion over another baseline than the first."""
    return metric.startswith(("insertion_", "deletion_"))


def title(method: str) -> str:
    """Name a method as people write it."""
    return _TITLES.get(method, method.replace("_", " "))


def short(value: float) -> str:
    """Write a number as short as it can be read: .948, or .0021 where that would be .002."""
    digits = f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"
    return re.sub(r"^(-?)0\.", r"\1.", digits)


def three_digits(value: float) -> str:
    """Write a positive number with three digits that count, and no exponent."""
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")


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
        higher_is_better = quality(metric).higher_is_better
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
