"""The explainer: encoder, classifier signals, confidence, refinement, saving and loading.

A saved explainer names its parts by stable names, see :mod:`saliency_vae.models.part_names`.
"""

from saliency_vae.models.conditional_encoder import ConditionalUNet
from saliency_vae.models.confidence import CONFIDENCE_FRACTION, ConfidenceNetwork, kept_view
from saliency_vae.models.config import BEFORE_NAMES, ExplainerConfig
from saliency_vae.models.distillation import agreement_score, calibrate, distillation_loss
from saliency_vae.models.encoders import PaperEncoder, UNet, fold_batch_norm
from saliency_vae.models.explainer import Explainer
from saliency_vae.models.model_card import FIGURE, as_call
from saliency_vae.models.refinement import (
    Refinement,
    RefinementSettings,
    explain_without_training,
    refine,
)
from saliency_vae.models.serialization import load_explainer, save_explainer
from saliency_vae.models.signals import ClassifierSignals, extract_signals, find_feature_maps

__all__ = [
    "BEFORE_NAMES",
    "CONFIDENCE_FRACTION",
    "FIGURE",
    "ClassifierSignals",
    "ConditionalUNet",
    "ConfidenceNetwork",
    "Explainer",
    "ExplainerConfig",
    "PaperEncoder",
    "Refinement",
    "RefinementSettings",
    "UNet",
    "agreement_score",
    "as_call",
    "calibrate",
    "distillation_loss",
    "explain_without_training",
    "extract_signals",
    "find_feature_maps",
    "fold_batch_norm",
    "kept_view",
    "load_explainer",
    "refine",
    "save_explainer",
]
