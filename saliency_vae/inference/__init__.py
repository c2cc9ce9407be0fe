"""Explaining image files: reading them, explaining them in batches, writing what was found.

A broken image never stops the others.
"""

from saliency_vae.inference.pipeline import Summary, explain_images

__all__ = ["Summary", "explain_images"]
