"""The report of an evaluation: one HTML file that needs nothing else."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from saliency_vae.evaluation.metric_info import (
    metric_info,
    over_another_removal,
    short,
    three_digits,
    title,
)
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.verdicts import OURS
from saliency_vae.metrics import Interval
from saliency_vae.runtime.atomic_file import write_whole
from saliency_vae.visualization import as_rgb, content_policy, shrink

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
)


def save_figures(figures: Mapping[str, Figure], directory: Path) -> dict[str, Path]:
    """Write each figure as PNG and SVG; returns the files of the latter by name."""
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
    """Write the report: findings, ranking, curves, cost, gallery, uncertainty, how it was made.

    Whatever comes from names, classes or settings is escaped.

    Args:
        results: What was found.
        charts: SVG files of :func:`saliency_vae.evaluation.report.charts.figures`, by name.
        gallery: From :func:`gallery_rows`.
        path: Of the HTML file.
    """
    page = _TEMPLATES.get_template("report.html").render(
        three_digits=three_digits,
        results=results,
        qualities={m: metric_info(m) for m in results.values if not over_another_removal(m)},
        removals={m: metric_info(m) for m in results.values if over_another_removal(m)},
        rows=ranking_rows(results),
        gallery=gallery,
        charts={name: _data_url("image/svg+xml", svg.read_bytes()) for name, svg in charts.items()},
        uncertainty_qualities={metric: metric_info(metric) for metric in results.uncertainty},
        uncertainty_rows=uncertainty_rows(results),
    )
    text = page.replace("<!--policy-->", content_policy(page), 1)
    write_whole(path, text.encode(errors="replace"))


def ranking_rows(results: Results) -> list[dict[str, Any]]:
    """One row a method, best insertion first."""
    best = {metric: results.best(metric) for metric in results.values}
    return [
        {
            "name": title(method),
            "kind": _kind(method, results),
            "cells": {
                metric: _cell(by_method[method]) | {"best": method in best[metric]}
                for metric, by_method in results.intervals.items()
            },
            "costs": [1000 * results.seconds[method], results.memory[method] / 2**20],
        }
        for method in results.ranking()
    ]


def uncertainty_rows(results: Results) -> list[dict[str, Any]]:
    """One row an uncertainty or control; a cell is None where a metric is not for it."""
    names = dict.fromkeys(name for by_name in results.uncertainty.values() for name in by_name)
    return [
        {
            "name": name,
            "kind": "ours" if name.startswith(OURS) else "other",
            "cells": [
                _cell(by_name[name]) if name in by_name else None
                for by_name in results.uncertainty.values()
            ],
        }
        for name in names
    ]


def gallery_rows(
    images: Tensor, maps: Mapping[str, Tensor], masks: Tensor | None, results: Results
) -> list[dict[str, Any]]:
    """Pictures of the same images, one row a method; above them image and true mask.

    Args:
        images: In [0, 1], (B, 3, H, W).
        maps: Method to its maps, (B, H, W), each coloured over its own range.
        masks: True masks, (B, H, W), if known.
        results: Say which methods are controls.
    """
    rows = [{"name": "image", "kind": "given", "pictures": [_photo(image) for image in images]}]
    if masks is not None:
        pictures = [_map(mask.float(), "gray") for mask in masks]
        rows.append({"name": "true mask", "kind": "given", "pictures": pictures})
    return rows + [
        {
            "name": title(method),
            "kind": _kind(method, results),
            "pictures": [_map(values, "viridis") for values in of_method],
        }
        for method, of_method in maps.items()
    ]


def _kind(method: str, results: Results) -> str:
    if method.startswith(OURS):
        return "ours"
    return "control" if method in results.controls else "other"


def _cell(interval: Interval) -> dict[str, Any]:
    mean, low, high = (short(float(value)) for value in interval)
    return {"value": float(interval.mean), "mean": mean, "interval": f"[{low}, {high}]"}


def _photo(image: Tensor) -> Markup:
    return _png(Image.fromarray(as_rgb(shrink(image))))


def _map(values: Tensor, colours: str) -> Markup:
    """A map (H, W) from its lowest to its highest value, one byte a pixel."""
    small = shrink(values[None])[0].double()
    spread = (small - small.min()) / (small.max() - small.min()).clamp_min(1e-300)
    picture = Image.fromarray((255 * spread).round().numpy().astype(np.uint8))
    picture.putpalette(colormaps[colours](range(256), bytes=True)[:, :3].tobytes())
    return _png(picture)


def _png(picture: Image.Image) -> Markup:
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _data_url("image/png", buffer.getvalue())


def _data_url(kind: str, content: bytes) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")
