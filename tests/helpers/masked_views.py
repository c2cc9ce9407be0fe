"""What the classifier predicts for images through masks of a given posterior."""

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.objective import MaskedViews, Objective
from saliency_vae.perturbations import Blur


def masked_views(
    objective: Objective,
    images: Tensor,
    posterior: SaliencyPosterior,
    classifier: FrozenClassifier,
    generator: torch.Generator | None = None,
) -> MaskedViews:
    """Show images through sampled masks; a generator draws one noise for all images."""
    if generator is None:
        saliency, uniform = posterior.rsample(), None
    else:
        noise = torch.randn(posterior.event_shape, generator=generator)
        saliency, uniform = posterior.reparameterise(noise), torch.rand(1, generator=generator)
    with torch.no_grad():
        original = classifier(images)
    return objective.views(saliency, images, original, classifier, uniform=uniform)


def sufficiency(
    classifier: FrozenClassifier, images: Tensor, posterior: SaliencyPosterior
) -> Tensor:
    """Probability of the decision when only the 5 % most salient pixels are kept, over a blur."""
    decision = classifier.decide(classifier(images))
    kept = posterior.topk_mask(0.05)[:, None]
    view = torch.where(kept, images, Blur()(images))
    return classifier.probability(classifier(view), decision)
