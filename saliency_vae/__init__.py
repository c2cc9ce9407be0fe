"""Variational saliency maps: where an image classifier looked, and how sure that is.

Public names are loaded when first used, so that ``import saliency_vae.topk`` loads torch alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saliency_vae.classifiers import FrozenClassifier
    from saliency_vae.data import Preprocessing
    from saliency_vae.inference import explain_photographs
    from saliency_vae.models import Explainer, load_explainer
    from saliency_vae.visualization import Explanation

    __version__: str

__all__ = [
    "Explainer",
    "Explanation",
    "FrozenClassifier",
    "Preprocessing",
    "__version__",
    "explain_photographs",
    "load_explainer",
]

_HOMES = {
    "Explainer": "saliency_vae.models",
    "Explanation": "saliency_vae.visualization",
    "FrozenClassifier": "saliency_vae.classifiers",
    "Preprocessing": "saliency_vae.data",
    "explain_photographs": "saliency_vae.inference",
    "load_explainer": "saliency_vae.models",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("saliency-vae")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
