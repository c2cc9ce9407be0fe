"""Metrics that are measured and logged in a training, validation or test step."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import SaliencyPosterior, kl_floor
from saliency_vae.metrics import mask_iou, pointing_game
from saliency_vae.models import Explainer
from saliency_vae.objective import LossTerms, MaskedViews, Objective
from saliency_vae.perturbations import perturb
from saliency_vae.topk import active_fraction

Stage = Literal["train", "val", "test"]
# Kept fractions at which agreement is measured: each is one more pass of the classifier.
AGREEMENT_FRACTIONS: dict[Stage, Sequence[float]] = {
    "train": (0.1,),
    "val": (0.05, 0.1, 0.2),
    "test": (0.05, 0.1, 0.2),
}


def measured_terms(objective: Objective, views: MaskedViews, terms: LossTerms) -> dict[str, Tensor]:
    """Mean of the loss and of each weighted term, and the active fraction of the top-k."""
    measured = {
        "loss": terms.loss.mean(),
        "reconstruction": terms.reconstruction.mean(),
        "kl": terms.kl.mean(),
        "topk_active_fraction": active_fraction(views.mask if views.soft is None else views.soft),
    }
    if objective.complement:
        measured["complement"] = terms.complement.mean()
    if objective.mean_penalty:
        measured["mean_penalty"] = terms.mean_penalty.mean()
    return measured


def measured_posterior(
    explainer: Explainer, posterior: SaliencyPosterior, views: MaskedViews, terms: LossTerms
) -> dict[str, Tensor]:
    """KL divergence above the family's floor, posterior stddev, and the learned correlation."""
    height, width = posterior.event_shape
    floor = kl_floor(posterior, explainer.prior(views.images)) / (height * width)
    measured = {"kl_above_floor": terms.kl.mean() - floor, "stddev": posterior.stddev.mean()}
    learned = explainer.learned_correlation
    if learned is not None:
        axes = ("",) if len(learned) == 1 else ("_vertical", "_horizontal")
        measured |= {f"correlation{axis}": rho for axis, rho in zip(axes, learned, strict=True)}
    return measured


@torch.no_grad()
def measured_agreement(
    classifier: FrozenClassifier,
    posterior: SaliencyPosterior,
    views: MaskedViews,
    fractions: Sequence[float],
) -> dict[str, Tensor]:
    """Share of images whose decision stays the same when a fraction of the pixels is kept."""
    measured: dict[str, Tensor] = {}
    for fraction in fractions:
        kept_view = perturb(views.images, posterior.topk_mask(fraction), views.baseline)
        agrees = classifier.agreement(views.original, classifier(kept_view))
        measured[f"agreement_{100 * fraction:.0f}"] = agrees.float().mean()
    return measured


def measured_localization(posterior: SaliencyPosterior, mask: Tensor) -> dict[str, Tensor]:
    """Pointing game and IoU of the posterior mean against true masks (B, H, W)."""
    return {
        "pointing_game": pointing_game(posterior.mean, mask).float().mean(),
        "iou": mask_iou(posterior.mean, mask).mean(),
    }
