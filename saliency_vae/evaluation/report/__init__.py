"""The results of an evaluation for people: the HTML page, its figures, the terminal and W&B.

Nothing is measured here. ``wandb_tables``, which loads W&B, is imported where it is asked for.
"""

from saliency_vae.evaluation.report.files import publish
from saliency_vae.evaluation.report.gallery import Caption
from saliency_vae.evaluation.report.grid_figure import questions_figure
from saliency_vae.evaluation.report.terminal import print_results

__all__ = ["Caption", "print_results", "publish", "questions_figure"]
