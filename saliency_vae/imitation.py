"""How the confidence network learns to imitate the classifier, and what it is held against."""

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.confidence import CONFIDENCE_FRACTION, ConfidenceNetwork
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.objective import Evaluation
from saliency_vae.perturbations import blurred, perturb


def judged_view(images: Tensor, posterior: SaliencyPosterior) -> Tensor:
    """Keep the most salient 5 % of images (B, 3, H, W) over a blur: what a confidence is about."""
    return perturb(images, posterior.topk_mask(CONFIDENCE_FRACTION), blurred(images))


def imitation_loss(
    network: ConfidenceNetwork,
    images: Tensor,
    posterior: SaliencyPosterior,
    evaluation: Evaluation,
    classifier: FrozenClassifier,
) -> Tensor:
    """Divergence of the network from the classifier on images, perturbed images and judged views.

    No gradient of it reaches the encoder.

    Returns:
        (3 B,), nats per view.
    """
    with torch.no_grad():
        judged = judged_view(images, posterior)
        views = torch.cat([images, evaluation.perturbed, judged])
        answers = torch.cat([evaluation.original, evaluation.prediction, classifier(judged)])
    return classifier.divergence(answers, network.imitate(views).float())


@torch.no_grad()
def trial(
    network: ConfidenceNetwork,
    images: Tensor,
    posterior: SaliencyPosterior,
    evaluation: Evaluation,
    classifier: FrozenClassifier,
) -> tuple[Tensor, Tensor]:
    """Hold the network against the classifier.

    Returns:
        Evidence that the decision stays, (B,), and whether it does, (B,) bool.
    """
    evidence = network.evidence(images, posterior.topk_mask(CONFIDENCE_FRACTION))
    kept = classifier(judged_view(images, posterior))
    return evidence, classifier.agreement(evaluation.original, kept)
