"""Explaining image files: reading them, explaining them in batches, writing what was found.

A broken image never stops the others.
"""

from saliency_vae.inference.pipeline import explain_images
from saliency_vae.inference.store import Explanations, load_explanations
from saliency_vae.inference.summary import Summary

__all__ = ["Explanations", "Summary", "explain_images", "load_explanations"]
