"""Exporting explainers as one graph that runs without this package: ONNX and torch.export.

The graph is compared with PyTorch before its file is put in place.
"""

from saliency_vae.exporting.loaded import LoadedExport, load_export
from saliency_vae.exporting.pipeline import Summary, export_explainer

__all__ = ["LoadedExport", "Summary", "export_explainer", "load_export"]
