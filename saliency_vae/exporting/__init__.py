"""Explainers as one graph that runs without this package: ONNX and torch.export.

What is written is compared with PyTorch before it takes its place.
"""

from saliency_vae.exporting.loaded import LoadedExport, load_export
from saliency_vae.exporting.pipeline import Summary, export_explainer

__all__ = ["LoadedExport", "Summary", "export_explainer", "load_export"]
