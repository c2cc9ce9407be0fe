"""Pictures of explanations: overlays, figures, panels and the gallery.

They take plain values, such as an :class:`Explanation`, and need no network.
"""

from saliency_vae.visualization.explanation import (
    ClassifiedView,
    Explanation,
    InputImage,
    Prediction,
    Sample,
)
from saliency_vae.visualization.explanation_files import MAPS, arrays, restored
from saliency_vae.visualization.gallery import remove_pages, write_gallery
from saliency_vae.visualization.gallery_entry import Entry, shrink
from saliency_vae.visualization.html_page import content_policy, data_url, load_template
from saliency_vae.visualization.measurement import FRACTIONS, Measurement
from saliency_vae.visualization.overlay import Pixels, as_rgb, colour, encoded, limits, rescaled
from saliency_vae.visualization.panel import displayed, draw_panel
from saliency_vae.visualization.read_back import read_back

__all__ = [
    "FRACTIONS",
    "MAPS",
    "ClassifiedView",
    "Entry",
    "Explanation",
    "InputImage",
    "Measurement",
    "Pixels",
    "Prediction",
    "Sample",
    "arrays",
    "as_rgb",
    "colour",
    "content_policy",
    "data_url",
    "displayed",
    "draw_panel",
    "encoded",
    "limits",
    "load_template",
    "read_back",
    "remove_pages",
    "rescaled",
    "restored",
    "shrink",
    "write_gallery",
]
