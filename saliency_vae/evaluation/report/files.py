"""Writing all files of an evaluation: numbers, figures and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.report.charts import figures, gallery_figure
from saliency_vae.evaluation.report.page import gallery_rows, save_figures, write_report
from saliency_vae.evaluation.results import Results


def publish(
    results: Results, maps: Mapping[str, Tensor], shown: Images, run: Path
) -> dict[str, Figure]:
    """Write ``metrics.csv``, ``metrics.json``, ``curves.npz``, ``figures/`` and ``report.html``.

    Args:
        results: Results of an evaluation.
        maps: Method to its maps of the first images, (N, H, W).
        shown: Images of the gallery, at most N; may be none.
        run: Directory to write into.

    Returns:
        The figures by name.
    """
    scores = results.scores
    drawn = figures(results)
    gallery: list[dict[str, Any]] = []
    if len(shown):
        batch = shown.as_batch()
        images = batch["image"].cpu()
        masks = batch["mask"].cpu() if "mask" in batch else None
        of_shown = {method: maps[method][: len(images)] for method in scores.ranking()}
        gallery = gallery_rows(images, of_shown, masks, roles=scores.roles)
        drawn["gallery"] = gallery_figure(images, of_shown, masks, roles=scores.roles)
    results.save(run)
    charts = save_figures(drawn, run / "figures")
    write_report(results, charts, gallery, run / "report.html")
    return drawn
