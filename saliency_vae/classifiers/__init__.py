"""The classifier that is explained: frozen, identified, built by name or from a record.

What two predictions have in common is measured here too, in nats.
"""

from saliency_vae.classifiers.builders import (
    custom_classifier,
    timm_classifier,
    torchvision_classifier,
)
from saliency_vae.classifiers.divergences import Output, bernoulli_kl, categorical_kl
from saliency_vae.classifiers.frozen import FrozenClassifier, check_frozen
from saliency_vae.classifiers.identity import ClassifierIdentity, parameter_hash
from saliency_vae.classifiers.probe import probe
from saliency_vae.classifiers.recorded import build_recorded

__all__ = [
    "ClassifierIdentity",
    "FrozenClassifier",
    "Output",
    "bernoulli_kl",
    "build_recorded",
    "categorical_kl",
    "check_frozen",
    "custom_classifier",
    "parameter_hash",
    "probe",
    "timm_classifier",
    "torchvision_classifier",
]
