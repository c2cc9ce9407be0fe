"""How good an explainer's uncertainty is: of maps, pixels and images, and on corrupted images.

Each part returns an :class:`UncertaintyReport`, which compares every number with a control's.
"""

from saliency_vae.evaluation.uncertainty.corruption import assess_corruption
from saliency_vae.evaluation.uncertainty.explained_batch import explain_batches
from saliency_vae.evaluation.uncertainty.images import (
    assess_images,
    assess_selection,
    gather_uncertainties,
)
from saliency_vae.evaluation.uncertainty.independent_runs import independent_runs
from saliency_vae.evaluation.uncertainty.pixels import (
    PixelMaps,
    assess_pixels,
    gather_pixel_maps,
)
from saliency_vae.evaluation.uncertainty.posterior import (
    PosteriorChecks,
    assess_posterior,
    check_posterior,
)
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.uncertainty.rivals import rival_uncertainties

__all__ = [
    "PixelMaps",
    "PosteriorChecks",
    "UncertaintyReport",
    "assess_corruption",
    "assess_images",
    "assess_pixels",
    "assess_posterior",
    "assess_selection",
    "check_posterior",
    "explain_batches",
    "gather_pixel_maps",
    "gather_uncertainties",
    "independent_runs",
    "rival_uncertainties",
]
