"""Explaining images: files in batches, writing what was found, or photographs in Python.

A broken file never stops the others; in Python it is an error.
"""

from saliency_vae.inference.photographs import explain_photographs
from saliency_vae.inference.pipeline import Summary, explain_images

__all__ = ["Summary", "explain_images", "explain_photographs"]
