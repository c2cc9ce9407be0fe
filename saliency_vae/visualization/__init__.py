"""Pictures of explanations: overlays, figures, panels and the gallery.

They take plain values and know no network.
"""

from saliency_vae.visualization.content_policy import content_policy
from saliency_vae.visualization.figures import explanation_figure, save_figure
from saliency_vae.visualization.gallery import entry, shrink, write_gallery
from saliency_vae.visualization.overlay import Pixels, as_rgb, colour, limits
from saliency_vae.visualization.panel import Panel, Prediction, display_size, displayed, draw_panel

__all__ = [
    "Panel",
    "Pixels",
    "Prediction",
    "as_rgb",
    "colour",
    "content_policy",
    "display_size",
    "displayed",
    "draw_panel",
    "entry",
    "explanation_figure",
    "limits",
    "save_figure",
    "shrink",
    "write_gallery",
]
