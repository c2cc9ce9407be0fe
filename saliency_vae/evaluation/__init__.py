"""Evaluation of an explainer beside other methods, on the same images and classifier.

:func:`run_evaluation` runs the stages, one line each; :mod:`saliency_vae.evaluation.report` shows
their results.
"""

from saliency_vae.evaluation.pipeline import run_evaluation

__all__ = ["run_evaluation"]
