"""Variational saliency maps: where an image classifier looked, and how sure that is."""

from importlib.metadata import version

from saliency_vae.explainer import Explainer, load_explainer

__version__ = version("saliency-vae")
__all__ = ["Explainer", "__version__", "load_explainer"]
