"""Distillation and calibration of the confidence network."""

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.models.confidence import ConfidenceNetwork, kept_view
from saliency_vae.objective import MaskedViews
from saliency_vae.runtime.autograd import recording_gradients


def distillation_loss(
    network: ConfidenceNetwork,
    posterior: SaliencyPosterior,
    views: MaskedViews,
    classifier: FrozenClassifier,
) -> Tensor:
    """Divergence of the network from the classifier (knowledge distillation, Hinton et al. 2015).

    The network is shown the images, the perturbed images and the kept views. No gradient of this
    loss reaches the encoder.

    Returns:
        Divergence of each view, (3 B,), nats.
    """
    with torch.no_grad():
        kept = kept_view(views.images, posterior)
        shown = torch.cat([views.images, views.perturbed, kept])
        targets = torch.cat([views.original, views.prediction, classifier(kept)])
    return classifier.divergence(targets, network.imitate(shown).float())


@torch.no_grad()
def agreement_score(
    network: ConfidenceNetwork,
    posterior: SaliencyPosterior,
    views: MaskedViews,
    classifier: FrozenClassifier,
) -> tuple[Tensor, Tensor]:
    """Compare the network's estimate with the classifier's decision on the kept view.

    Returns:
        Log-odds that the decision stays the same, (B,), and whether it does, (B,) bool.
    """
    kept = kept_view(views.images, posterior)
    agreed = classifier.agreement(views.original, classifier(kept))
    return network.score(views.images, kept), agreed


def calibrate(network: ConfidenceNetwork, scores: Tensor, agreed: Tensor) -> None:
    """Calibrate the network's probability (Platt scaling with smoothed targets, Platt 1999).

    Args:
        network: Network whose scale and offset are set.
        scores: Scores of validation images, (N,).
        agreed: Whether the classifier's decision was the same on their kept views, (N,) bool.
    """
    with recording_gradients():  # validation runs without them
        uncalibrated, came_true = scores.cpu().double().clone(), agreed.cpu().clone()
        successes, failures = came_true.sum(), (~came_true).sum()
        likely, unlikely = (successes + 1) / (successes + 2), 1 / (failures + 2)
        target = torch.where(came_true, likely, unlikely).double()
        fit = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([fit], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.binary_cross_entropy_with_logits(fit[0] * uncalibrated + fit[1], target)
            torch.autograd.backward(value)
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        scale, offset = fit.tolist()
    network.scale.fill_(scale)
    network.offset.fill_(offset)
