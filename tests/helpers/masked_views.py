"""Figure 1 from a given posterior on, as the training step and the refinement go through it."""

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.objective import MaskedViews, Objective
from saliency_vae.perturbations import perturb


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
    mask = objective.topk(saliency, uniform=uniform)
    baseline = objective.perturbation(images)
    perturbed = perturb(images, mask, baseline)
    with torch.no_grad():
        original = classifier(images)
    return MaskedViews(images, mask, baseline, perturbed, original, classifier(perturbed))
