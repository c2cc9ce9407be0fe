"""Presentation of the results: HTML page, figures, tables, terminal and W&B.

Nothing is measured here. ``wandb_tables`` loads W&B, so it is imported only where needed.
"""

from saliency_vae.evaluation.report.files import publish
from saliency_vae.evaluation.report.gallery import Caption
from saliency_vae.evaluation.report.grid_figure import questions_figure
from saliency_vae.evaluation.report.terminal import print_results

__all__ = ["Caption", "print_results", "publish", "questions_figure"]
