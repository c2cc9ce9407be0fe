"""Explaining image files in batches with results on disk, or photographs in Python.

A broken file never stops the others; in Python it is an error.
"""

from saliency_vae.inference.photographs import explain_photographs
from saliency_vae.inference.pipeline import explain_images
from saliency_vae.inference.store import Explanations, load_explanations
from saliency_vae.inference.summary import Summary

__all__ = [
    "Explanations",
    "Summary",
    "explain_images",
    "explain_photographs",
    "load_explanations",
]
