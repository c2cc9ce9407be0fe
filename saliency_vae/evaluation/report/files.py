"""Writes all files of an evaluation: numbers, figures, tables and the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.report.charts import figures
from saliency_vae.evaluation.report.gallery import Caption, gallery_figure, gallery_rows
from saliency_vae.evaluation.report.page import save_figures, write_report
from saliency_vae.evaluation.report.paper_tables import paper_tables
from saliency_vae.evaluation.results import Results
from saliency_vae.runtime.atomic_file import write_whole


def publish(
    results: Results,
    maps: Mapping[str, Tensor],
    shown: Images,
    run: Path,
    *,
    captions: Sequence[Caption] = (),
    further: Mapping[str, Figure] | None = None,
) -> dict[str, Figure]:
    """Write numbers, figures, tables and the report.

    These are ``metrics.csv``, ``metrics.json``, ``curves.npz``, ``figures/``, ``table.md``,
    ``table.tex`` and ``report.html``.

    Args:
        results: Results of an evaluation.
        maps: Method to its maps of the first images, (N, H, W).
        shown: Images of the gallery, at most N; may be none.
        run: Directory to write into.
        captions: Caption of each image of the gallery; may be none.
        further: Figures by name that are drawn already: ``grid_pointing`` and ``two_objects``.

    Returns:
        The figures by name.
    """
    scores = results.scores
    drawn = figures(results) | dict(further or {})
    gallery: list[dict[str, Any]] = []
    if len(shown):
        batch = shown.as_batch()
        images = batch["image"].cpu()
        masks = batch["mask"].cpu() if "mask" in batch else None
        of_shown = {method: maps[method][: len(images)] for method in scores.ranking()}
        gallery = gallery_rows(images, of_shown, masks, roles=scores.roles)
        drawn["gallery"] = gallery_figure(
            images, of_shown, masks, roles=scores.roles, captions=captions
        )
    results.save(run)
    charts = save_figures(drawn, run / "figures")
    paper = paper_tables(results)
    for name, text in zip(("table.md", "table.tex"), paper.values(), strict=True):
        write_whole(run / name, text.encode(errors="replace"))
    write_report(results, charts, gallery, paper, run / "report.html", captions=captions)
    return drawn
