"""The frozen classifier M to explain: how it is built, identified, checked and rebuilt.

Divergences between two of its predictions are here, too.
"""

from saliency_vae.classifiers.builders import (
    custom_classifier,
    huggingface_classifier,
    timm_classifier,
    torchvision_classifier,
)
from saliency_vae.classifiers.check import check_classifier, check_frozen, check_logits
from saliency_vae.classifiers.divergences import bernoulli_kl, categorical_kl
from saliency_vae.classifiers.efficientnet_lite import efficientnet_lite_classifier
from saliency_vae.classifiers.frozen import FrozenClassifier, WrongOutputError, as_logits
from saliency_vae.classifiers.identity import ClassifierIdentity, parameter_hash
from saliency_vae.classifiers.passes import Passes, TooManyPassesError, counted_passes
from saliency_vae.classifiers.recorded import build_classifier, build_recorded
from saliency_vae.classifiers.targets import Output, Target, as_target, class_target

__all__ = [
    "ClassifierIdentity",
    "FrozenClassifier",
    "Output",
    "Passes",
    "Target",
    "TooManyPassesError",
    "WrongOutputError",
    "as_logits",
    "as_target",
    "bernoulli_kl",
    "build_classifier",
    "build_recorded",
    "categorical_kl",
    "check_classifier",
    "check_frozen",
    "check_logits",
    "class_target",
    "counted_passes",
    "custom_classifier",
    "efficientnet_lite_classifier",
    "huggingface_classifier",
    "parameter_hash",
    "timm_classifier",
    "torchvision_classifier",
]
