"""A universal explainer with random weights, for tests of anything but its maps' quality."""

from typing import Any

import torch
from torch import nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.models import Explainer
from saliency_vae.models.config import ExplainerConfig


def build(classifier: FrozenClassifier, **settings: int) -> Explainer:
    """Make an explainer of a classifier; settings of the encoder replace its own."""
    encoder: dict[str, Any] = {
        "_target_": "saliency_vae.models.universal_encoder.UniversalUNet",
        "channels": [4, 6],
        "copies": 2,
    }
    prior = {
        "_target_": "saliency_vae.distributions.KroneckerNormal",
        "_partial_": True,
        "correlation": 0.5,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Explainer.from_config(ExplainerConfig(encoder=encoder | settings, prior=prior))
        for name, weights in made.named_parameters():
            if name.endswith("head.weight"):  # zero at first
                nn.init.normal_(weights)
    return made.eval().attach_classifier(classifier)
