"""The report of an evaluation: one HTML file that needs nothing else."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from saliency_vae.evaluation.metric_info import has_own_baseline_image, metric_info
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.evaluation.wording import label, short, three_digits, title
from saliency_vae.metrics import Interval
from saliency_vae.runtime.atomic_file import write_whole
from saliency_vae.visualization import as_rgb, content_policy, load_template, min_max, shrink


def save_figures(figures: Mapping[str, Figure], directory: Path) -> dict[str, Path]:
    """Write each figure as PNG and SVG; returns the SVG files by name."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=150)
        figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
    return {name: directory / f"{name}.svg" for name in figures}


def write_report(
    results: Results,
    charts: Mapping[str, Path],
    gallery: Sequence[Mapping[str, Any]],
    path: Path,
) -> None:
    """Write the report: verdicts, ranking, curves, cost, gallery, uncertainty, run metadata.

    Names of methods, classes and settings are escaped.

    Args:
        results: Results of an evaluation.
        charts: SVG files of :func:`saliency_vae.evaluation.report.charts.figures`, by name.
        gallery: Rows from :func:`gallery_rows`.
        path: HTML file to write.
    """
    scores, uncertainty = results.scores, results.uncertainty
    page = load_template(Path(__file__).with_name("report.html")).render(
        three_digits=three_digits,
        results=results,
        scores=scores,
        metrics={m: metric_info(m) for m in scores.values if not has_own_baseline_image(m)},
        further_metrics={m: metric_info(m) for m in scores.values if has_own_baseline_image(m)},
        rows=ranking_rows(scores),
        gallery=gallery,
        charts={name: _data_url("image/svg+xml", svg.read_bytes()) for name, svg in charts.items()},
        uncertainty_metrics={metric: metric_info(metric) for metric in uncertainty.intervals},
        uncertainty_rows=uncertainty_rows(uncertainty),
    )
    text = page.replace("<!--policy-->", content_policy(page), 1)
    write_whole(path, text.encode(errors="replace"))


def ranking_rows(scores: Scores) -> list[dict[str, Any]]:
    """One row for each method, highest insertion AUC first."""
    best = {metric: scores.best(metric) for metric in scores.values}
    return [
        {
            "name": title(method),
            "role": scores.roles[method],
            "cells": {
                metric: _cell(by_method[method]) | {"best": method in best[metric]}
                for metric, by_method in scores.intervals.items()
            },
            "costs": [1000 * scores.seconds[method], scores.memory[method] / 2**20],
        }
        for method in scores.ranking()
    ]


def uncertainty_rows(report: UncertaintyReport) -> list[dict[str, Any]]:
    """One row for each uncertainty or control; a cell is None where a metric does not apply."""
    names = dict.fromkeys(name for by_name in report.intervals.values() for name in by_name)
    return [
        {
            "name": label(name, report.roles[name]),
            "role": report.roles[name],
            "cells": [
                _cell(by_name[name]) if name in by_name else None
                for by_name in report.intervals.values()
            ],
        }
        for name in names
    ]


def gallery_rows(
    images: Tensor,
    maps: Mapping[str, Tensor],
    masks: Tensor | None,
    *,
    roles: Mapping[str, Role],
) -> list[dict[str, Any]]:
    """Pictures of the same images: one row for each method, above them image and true mask.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        maps: Method to its maps, (B, H, W), each coloured over its own range.
        masks: True masks, (B, H, W); None if they are not known.
        roles: Method to its role.
    """
    rows = [{"name": "image", "role": "given", "pictures": [_photo(image) for image in images]}]
    if masks is not None:
        pictures = [_map(mask.float(), "gray") for mask in masks]
        rows.append({"name": "true mask", "role": "given", "pictures": pictures})
    return rows + [
        {
            "name": title(method),
            "role": roles[method],
            "pictures": [_map(values, "viridis") for values in of_method],
        }
        for method, of_method in maps.items()
    ]


def _cell(interval: Interval) -> dict[str, Any]:
    mean, low, high = (short(float(value)) for value in interval)
    return {"value": float(interval.mean), "mean": mean, "interval": f"[{low}, {high}]"}


def _photo(image: Tensor) -> Markup:
    return _png(Image.fromarray(as_rgb(shrink(image))))


def _map(values: Tensor, colours: str) -> Markup:
    """Draw a map (H, W) from its lowest to its highest value, one byte a pixel."""
    levels = 255 * min_max(shrink(values[None])[0].double())
    picture = Image.fromarray(levels.round().numpy().astype(np.uint8))
    picture.putpalette(colormaps[colours](range(256), bytes=True)[:, :3].tobytes())
    return _png(picture)


def _png(picture: Image.Image) -> Markup:
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _data_url("image/png", buffer.getvalue())


def _data_url(kind: str, content: bytes) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")
