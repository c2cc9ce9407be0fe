"""The rows of the tables: formatted scores and costs of each method."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from saliency_vae.evaluation.main_metrics import agreements, further_metrics
from saliency_vae.evaluation.measured_baselines import (
    baseline_name,
    further_baselines,
    metrics_over,
    seen_note,
)
from saliency_vae.evaluation.metric_info import MetricInfo, metric_info, over
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.evaluation.wording import label, short, three_digits, title
from saliency_vae.metrics import Interval

COSTS = {
    "passes": "Passes of the classifier for one image: the image once forward, or once forward and "
    "back, is one pass.",
    "ms": "Wall-clock time per image, in batches, after a first call that is not counted.",
    "MiB": "Peak memory of the tensors that explaining one image makes; weights do not count.",
}


@dataclass(frozen=True)
class Cell:
    """Score of a method by a metric, with its formatted text.

    Attributes:
        value: Mean over the images.
        mean: The mean as it is written.
        interval: Its 95 % interval as it is written.
        best: Whether no competitor has a better mean.
        fewer: Number of images or questions, such as ``12 images``, if other methods were scored on
            more; empty otherwise.
    """

    value: float
    mean: str
    interval: str
    best: bool = False
    fewer: str = ""

    def __str__(self) -> str:
        return f"{self.mean} {self.interval}{self.fewer and f', {self.fewer}'}"


@dataclass(frozen=True)
class Row:
    """A method in a table.

    Attributes:
        name: Display name of the method.
        role: Its role.
        cells: Metric to the method's score; metrics without a score are missing.
        costs: Some of ``passes``, ``ms`` and ``MiB``, to the cost per image.
    """

    name: str
    role: Role
    cells: Mapping[str, Cell]
    costs: Mapping[str, float]


@dataclass(frozen=True)
class MetricTable:
    """A table of methods by metrics.

    Attributes:
        name: Name that a page refers to it by.
        heading: Heading.
        metrics: Metrics of the columns, and what they mean.
        rows: Rows, best first.
    """

    name: str
    heading: str
    metrics: Mapping[str, MetricInfo]
    rows: list[Row]


def ranking_rows(scores: Scores) -> list[Row]:
    """One row for each method, highest insertion AUC first."""
    best = {metric: scores.best(metric) for metric in scores.values}
    return [
        Row(
            title(method),
            scores.roles[method],
            {
                metric: _cell(
                    by_method[method],
                    best=method in best[metric],
                    fewer=""
                    if scores.is_complete(metric, method)
                    else scores.counted(metric, method),
                )
                for metric, by_method in scores.intervals.items()
                if method in by_method
            },
            _costs(scores, method),
        )
        for method in scores.ranking()
    ]


def described(metrics: list[str]) -> dict[str, MetricInfo]:
    """Metrics and what they mean."""
    return {metric: metric_info(metric) for metric in metrics}


def baseline_tables(scores: Scores, rows: list[Row]) -> list[MetricTable]:
    """One table for each further baseline image, highest insertion AUC over it first.

    The columns do not repeat the baseline image that the heading names.
    """
    return [
        MetricTable(
            f"over-{baseline}",
            f"Over {baseline_name(scores, baseline)}{seen_note(scores, baseline)}",
            {m: metric_info(m.partition("_")[0]) for m in metrics_over(scores, baseline)},
            _sorted(rows, over("insertion", baseline)),
        )
        for baseline in further_baselines(scores)
    ]


def further_tables(scores: Scores, rows: list[Row]) -> list[MetricTable]:
    """Tables of metrics that the ranking has no room for: all agreements, and all others."""
    kept = agreements(scores)
    tables = [
        MetricTable(
            "agreements",
            "Decisions kept, by the share of the pixels kept",
            described(kept if len(kept) > 1 else []),
            rows,
        ),
        MetricTable("further", "Further metrics", described(further_metrics(scores)), rows),
    ]
    return [table for table in tables if table.metrics]


def uncertainty_rows(report: UncertaintyReport) -> list[dict[str, Any]]:
    """One row for each uncertainty or control; a cell is None where a metric does not apply."""
    names = dict.fromkeys(name for by_name in report.intervals.values() for name in by_name)
    return [
        {
            "name": label(name, report.roles[name]),
            "role": report.roles[name],
            "cells": [
                _uncertainty_cell(metric, by_name[name]) if name in by_name else None
                for metric, by_name in report.intervals.items()
            ],
        }
        for name in names
    ]


def _uncertainty_cell(metric: str, interval: Interval) -> Cell:
    """Cell of an uncertainty; a number of passes is exact, and has no interval."""
    cell = _cell(interval)
    if metric != "passes":
        return cell
    return replace(cell, mean=three_digits(cell.value), interval="")


def uncertainty_tables(report: UncertaintyReport) -> list[dict[str, Any]]:
    """Tables of the metrics of sampled maps, and of the uncertainties of pixels and images."""
    sampled = {name: of for name, of in report.intervals.items() if name.startswith("samples_")}
    others = {name: of for name, of in report.intervals.items() if name not in sampled}
    return [
        {
            "heading": heading,
            "metrics": described(list(intervals)),
            "rows": uncertainty_rows(replace(report, intervals=intervals)),
        }
        for heading, intervals in (("Maps", sampled), ("Uncertainty", others))
        if intervals
    ]


def _costs(scores: Scores, method: str) -> dict[str, float]:
    mebibytes = {name: number / 2**20 for name, number in scores.memory.items()}
    milliseconds = {name: 1000 * seconds for name, seconds in scores.seconds.items()}
    costs = zip(COSTS, (scores.passes, milliseconds, mebibytes), strict=True)
    return {cost: by_method[method] for cost, by_method in costs if method in by_method}


def _sorted(rows: list[Row], metric: str) -> list[Row]:
    """Rows that have a value of a metric, highest first."""
    having = [row for row in rows if metric in row.cells]
    return sorted(having, key=lambda row: -row.cells[metric].value)


def _cell(interval: Interval, *, best: bool = False, fewer: str = "") -> Cell:
    mean, low, high = map(float, interval)
    bounds = f"[{short(low)}, {short(high)}]"
    return Cell(mean, short(mean), bounds, best, fewer)
