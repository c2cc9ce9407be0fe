"""The report of an evaluation: one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from saliency_vae.evaluation.main_metrics import main_metrics
from saliency_vae.evaluation.measured_baselines import baseline_name, seen_note
from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.report.gallery import Caption
from saliency_vae.evaluation.report.rows import (
    COSTS,
    MetricTable,
    Row,
    baseline_tables,
    described,
    further_tables,
    ranking_rows,
    uncertainty_tables,
)
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import three_digits, title
from saliency_vae.runtime.atomic_file import write_whole
from saliency_vae.visualization import content_policy, data_url, load_template

_REVERSALS = 10  # rank reversals shown


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
    paper: Mapping[str, str],
    path: Path,
    *,
    captions: Sequence[Caption] = (),
) -> None:
    """Write the report: verdicts, rankings, curves, cost, gallery, uncertainty, metadata.

    Names of methods, files, classes and settings are escaped.

    Args:
        results: Results of an evaluation.
        charts: SVG files of :func:`saliency_vae.evaluation.report.charts.figures`, by name.
        gallery: Rows from :func:`saliency_vae.evaluation.report.gallery.gallery_rows`.
        paper: Tables of :func:`saliency_vae.evaluation.report.paper_tables.paper_tables`.
        path: HTML file to write.
        captions: Caption of each image of the gallery; may be none.
    """
    scores, uncertainty, reversals = results.scores, results.uncertainty, results.rank_reversals
    rows = ranking_rows(scores)
    page = load_template(Path(__file__).with_name("report.html")).render(
        three_digits=three_digits,
        results=results,
        scores=scores,
        seen_classifiers=_seen_classifiers(scores),
        ranking=_ranking(scores, rows),
        costs={cost: text for cost, text in COSTS.items() if any(cost in r.costs for r in rows)},
        baseline_tables=baseline_tables(scores, rows),
        further_tables=further_tables(scores, rows),
        reversals=reversals,
        reversal_metric=metric_info(reversals.metric).title,
        shown_reversals=_REVERSALS,
        tau_names=list(dict.fromkeys(name for pair in reversals.tau for name in pair)),
        paper=paper,
        gallery=gallery,
        captions=captions,
        charts={name: data_url("image/svg+xml", svg.read_bytes()) for name, svg in charts.items()},
        uncertainty_tables=uncertainty_tables(uncertainty),
    )
    text = page.replace("<!--policy-->", content_policy(page), 1)
    write_whole(path, text.encode(errors="replace"))


def _ranking(scores: Scores, rows: list[Row]) -> MetricTable:
    over = f" over {baseline_name(scores, '')}{seen_note(scores, '')}" if scores.baseline else ""
    return MetricTable("ranking", f"Ranking{over}", described(main_metrics(scores)), rows)


def _seen_classifiers(scores: Scores) -> str:
    """Say for each explainer whether its training used this classifier; empty if not known."""
    parts = [
        f"{title(method)} {'was' if seen else 'was not'} trained with this classifier"
        for method, seen in scores.classifier_seen.items()
    ]
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}." if parts else ""
