"""The report of an evaluation: one HTML file that needs nothing else."""

import base64
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from saliency_vae.results import QUALITIES, Results


def save_figures(figures: Mapping[str, Figure], directory: Path) -> None:
    """Write each figure as PNG and SVG."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=150)
        figure.savefig(directory / f"{name}.svg", metadata={"Date": None})


def write_report(results: Results, figures: Mapping[str, Figure], path: Path) -> None:
    """Write the report: ranking, curves, speed, gallery, uncertainty, how it was measured.

    Whatever comes from file names, classes or settings is escaped.

    Args:
        results: What was found.
        figures: ``curves``, ``speed``, ``gallery``, and any of the uncertainty section.
        path: Of the HTML file.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = environment.get_template("report.html").render(
        results=results,
        qualities={name: QUALITIES[name] for name in QUALITIES if name in results.values},
        rows=_rows(results),
        pictures={name: _data_url(figure) for name, figure in figures.items()},
    )
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)


def _rows(results: Results) -> list[dict[str, object]]:
    """One row a method, best insertion first, controls of chance included."""
    order = results.methods
    if "insertion" in results.values:
        order = sorted(order, key=lambda m: -float(results.values["insertion"][m].mean()))
    best = {
        metric: results.best(metric, among=[m for m in order if m in by_method])
        for metric, by_method in results.values.items()
    }
    rows = []
    for method in order:
        cells = {}
        for metric, by_method in results.values.items():
            if method not in by_method:
                continue
            interval = results.interval(metric, method)
            cells[metric] = {"interval": interval, "best": best[metric] == method}
        rows.append(
            {
                "method": method,
                "ours": method.startswith("ours"),
                "cells": cells,
                "milliseconds": 1000 * results.seconds[method],
                "megabytes": results.memory.get(method, 0.0) / 2**20,
            }
        )
    return rows


def _data_url(figure: Figure) -> Markup:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return Markup("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
