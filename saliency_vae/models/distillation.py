"""How the confidence network learns to imitate the classifier, and is calibrated."""

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.models.confidence import CONFIDENCE_FRACTION, ConfidenceNetwork
from saliency_vae.objective import LossTerms
from saliency_vae.perturbations import blurred, perturb


def kept_view(images: Tensor, posterior: SaliencyPosterior) -> Tensor:
    """Keep the most salient 5 % of images (B, 3, H, W) over a blur: what a confidence is about."""
    return perturb(images, posterior.topk_mask(CONFIDENCE_FRACTION), blurred(images))


def distillation_loss(
    network: ConfidenceNetwork,
    images: Tensor,
    posterior: SaliencyPosterior,
    terms: LossTerms,
    classifier: FrozenClassifier,
) -> Tensor:
    """Divergence of the network from the classifier on images, perturbed images and judged views.

    No gradient of it reaches the encoder.

    Returns:
        (3 B,), nats per view.
    """
    with torch.no_grad():
        judged = kept_view(images, posterior)
        views = torch.cat([images, terms.perturbed, judged])
        answers = torch.cat([terms.original, terms.prediction, classifier(judged)])
    return classifier.divergence(answers, network.imitate(views).float())


@torch.no_grad()
def agreement_score(
    network: ConfidenceNetwork,
    images: Tensor,
    posterior: SaliencyPosterior,
    terms: LossTerms,
    classifier: FrozenClassifier,
) -> tuple[Tensor, Tensor]:
    """Hold the network against the classifier.

    Returns:
        Score of the decision staying, (B,), and whether it does, (B,) bool.
    """
    scores = network.score(images, posterior.topk_mask(CONFIDENCE_FRACTION))
    kept = classifier(kept_view(images, posterior))
    return scores, classifier.agreement(terms.original, kept)


def calibrate(network: ConfidenceNetwork, scores: Tensor, agreed: Tensor) -> None:
    """Fit the network's probability to what came true (Platt 1999, with his smoothed targets).

    Args:
        network: Whose scale and offset are set.
        scores: Of validation images, (N,).
        agreed: Whether the classifier decided alike on their kept views, (N,) bool.
    """
    with torch.inference_mode(False), torch.enable_grad():  # a validation has neither
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
