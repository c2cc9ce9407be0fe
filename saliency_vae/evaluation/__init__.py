"""Comparing an explainer with other methods on the same images and classifier.

:mod:`saliency_vae.evaluation.pipeline` holds the stages, one line each.
"""
