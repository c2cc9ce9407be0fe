"""Saving an explainer, in a process of its own."""

from functools import partial
from pathlib import Path

import torch

from saliency_vae.cli.errors import one_line_errors
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.models import Explainer, save_explainer
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.encoders import UNet
from tests.faults.small_run import CallCounter

CHANNELS = (8, 16, 32)


def explainer(seed: int) -> Explainer:
    """An explainer of a few hundred kilobytes."""
    torch.manual_seed(seed)
    encoder = UNet(CHANNELS)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter)
    made = Explainer(encoder, prior=partial(KroneckerNormal, correlation=0.9))
    made.recorded = ExplainerConfig(
        encoder={"_target_": "saliency_vae.models.encoders.UNet", "channels": list(CHANNELS)},
        prior={"_target_": "saliency_vae.distributions.KroneckerNormal", "_partial_": True},
        topk={"_target_": "saliency_vae.topk.SoftTopK", "fraction": [0.1, 0.3]},
        perturbation={"_target_": "saliency_vae.perturbations.Mean"},
        beta=0.1,
        metrics={"seed": seed},
    )
    return made


def save(directory: Path, seed: int, kill_at: int = 0) -> None:
    """Save an explainer; kill the process at a function call, or at none."""
    made = explainer(seed)
    with one_line_errors("train"), CallCounter(kill_at) as calls:
        save_explainer(made, directory)
    (directory.parent / "calls").write_text(str(calls.number))
