"""A small explainer of a small classifier, made in a second, for the tests of faults."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from saliency_vae.models import Explainer, save_explainer
from saliency_vae.models.config import ExplainerConfig
from tests.helpers.digits import recorded_digits

PARTS: dict[str, Any] = {
    "name": "tiny",
    "encoder": {"_target_": "saliency_vae.models.encoders.UNet", "channels": [4, 8]},
    "prior": {"_target_": "saliency_vae.distributions.KroneckerNormal", "_partial_": True},
    "posterior": "mean_field",
    "topk": {
        "_target_": "saliency_vae.topk.SoftTopK",
        "fraction": [0.05, 0.3],
        "temperature": 0.1,
    },
    "perturbation": {"_target_": "saliency_vae.perturbations.Mean"},
    "beta": 0.1,
    "confidence": {
        "_target_": "saliency_vae.models.confidence.ConfidenceNetwork",
        "classes": 10,
        "width": 4,
    },
}
TRAIN = (
    "experiment=cluttered_digits",
    "data.image_size=32",
    "data.train_size=64",
    "data.val_size=16",
    "data.test_size=8",
    "data.batch_size=16",
    "classifier.train_size=64",
    "classifier.epochs=1",
    "encoder.channels=[4,8]",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
    "trainer.max_epochs=1",
    "++trainer.enable_progress_bar=false",
    "++trainer.enable_model_summary=false",
)
DIGITS = (
    "data=cluttered_digits",
    "data.image_size=32",
    *("data.train_size=64", "data.val_size=16", "data.test_size=8"),
)


def make_explainer(directory: Path) -> Path:
    """Save ``explainer`` and its classifier, ``digits.safetensors``, which it has recorded."""
    identity = recorded_digits(directory / "digits.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        explainer = Explainer.from_config(
            ExplainerConfig(**PARTS, classifier=identity, image_size=(32, 32))
        )
        nn.init.normal_(explainer.get_parameter("encoder.head.weight"), std=0.5)
    save_explainer(explainer, directory / "explainer")
    return directory / "explainer"
