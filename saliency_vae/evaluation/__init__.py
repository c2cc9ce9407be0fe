"""Evaluation of an explainer against other methods, on the same images and classifier.

:func:`run_evaluation` runs all stages; :mod:`saliency_vae.evaluation.report` presents the results.
"""

from saliency_vae.evaluation.pipeline import run_evaluation

__all__ = ["run_evaluation"]
