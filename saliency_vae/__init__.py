"""Variational saliency maps: where an image classifier looked, and how certain that is.

Public names are imported on first use, so that ``import saliency_vae.topk`` loads only torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saliency_vae.classifiers import FrozenClassifier
    from saliency_vae.data import Preprocessing
    from saliency_vae.inference import explain_photographs, load_explanations
    from saliency_vae.models import Explainer, load_explainer
    from saliency_vae.training.fit import fit
    from saliency_vae.visualization import Explanation

    __version__: str

__all__ = [
    "Explainer",
    "Explanation",
    "FrozenClassifier",
    "Preprocessing",
    "__version__",
    "explain_photographs",
    "fit",
    "load_explainer",
    "load_explanations",
]

_HOMES = {
    "Explainer": "saliency_vae.models",
    "Explanation": "saliency_vae.visualization",
    "FrozenClassifier": "saliency_vae.classifiers",
    "Preprocessing": "saliency_vae.data",
    "explain_photographs": "saliency_vae.inference",
    "fit": "saliency_vae.training.fit",
    "load_explainer": "saliency_vae.models",
    "load_explanations": "saliency_vae.inference",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("saliency-vae")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
