"""Batches of images with their posteriors, the input of the posterior checks."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.distributions import SaliencyPosterior, SaliencyPrior
from saliency_vae.evaluation.baseline_images import BASELINE_IMAGES
from saliency_vae.evaluation.uncertainty.decision_views import DecisionViews
from saliency_vae.models import Explainer

BASELINES = ("blur", "inpaint")  # most trainings use the first, and none the second


@dataclass(frozen=True)
class ExplainedBatch:
    """A batch of images, its decisions and its posterior.

    Attributes:
        images: Images in [0, 1], (B, 3, H, W).
        decision: The classifier's decision, weights of the logits, (B, classes).
        posterior: Posterior of the images, batch shape (B,).
        prior: Prior of their maps.
    """

    images: Tensor
    decision: Tensor
    posterior: SaliencyPosterior
    prior: SaliencyPrior

    def views(self, classifier: FrozenClassifier, baseline: str) -> DecisionViews:
        """Views of the images over a baseline, by its name."""
        made = BASELINE_IMAGES[baseline](self.images, classifier)
        return DecisionViews(classifier, self.images, self.decision, made)


@torch.no_grad()
def explain_batches(
    batches: Iterable[Batch], explainer: Explainer, classifier: FrozenClassifier
) -> list[ExplainedBatch]:
    """Explain the classifier's decisions for a few images, all of which are kept in memory."""
    explained = []
    for batch in batches:
        images = batch["image"]
        signals = explainer.signals(images, classifier=classifier)
        prior = explainer.prior(images, signals)
        logits = classifier(images) if signals is None else signals.logits
        posterior = explainer.encode(images, prior, signals)
        explained.append(ExplainedBatch(images, classifier.decide(logits), posterior, prior))
    return explained
