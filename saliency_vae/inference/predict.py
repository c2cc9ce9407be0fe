"""Explaining image files in batches: views in; maps, panels and gallery entries out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import INCLUSION_FRACTION, SaliencyPosterior
from saliency_vae.inference.image_files import View
from saliency_vae.models import Explainer
from saliency_vae.perturbations import perturb
from saliency_vae.topk import hard_topk, num_kept
from saliency_vae.visualization import Prediction


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is known of one image; maps and images as the classifier sees it, on the CPU.

    Attributes:
        view: Of the file.
        image: In [0, 1], (3, h, w).
        baseline: The image without information, (3, h, w).
        kept_view: Top ``fraction`` of the pixels over the baseline, (3, h, w).
        maps: Posterior mean, stddev and inclusion probability at ``fraction``, (3, h, w).
        gallery_inclusion: Inclusion probability at the gallery's fraction, (h, w).
        fraction: Of the pixels kept.
        confidence: That 5 % of the pixels keep the decision, in [0, 1].
        probabilities: Of the image's classes, (classes,).
        kept_probabilities: Of the kept view's, (classes,).
        predictions: Most probable classes of the image.
        kept_predictions: Most probable classes of the kept view.
        objective: Before and after refinement, (2,), nats; None without refinement.
        samples: Maps drawn from the posterior, (n, h, w).
        sample_views: Their kept views, (n, 3, h, w).
        sample_predictions: Most probable classes of those views.
    """

    view: View
    image: Tensor
    baseline: Tensor
    kept_view: Tensor
    maps: Tensor
    gallery_inclusion: Tensor
    fraction: float
    confidence: float
    probabilities: Tensor
    kept_probabilities: Tensor
    predictions: Prediction
    kept_predictions: Prediction
    objective: Tensor | None
    samples: Tensor
    sample_views: Tensor
    sample_predictions: Sequence[Prediction]


def explain_batch(
    views: Sequence[View],
    explainer: Explainer,
    classifier: FrozenClassifier,
    perturbation: nn.Module,
    *,
    fraction: float,
    refine_steps: int = 0,
    samples: int = 0,
    seed: int = 0,
) -> list[Explanation]:
    """Explain images of one size.

    Args:
        views: At least one, all of one size.
        explainer: Trained, on the device of the classifier.
        classifier: To explain.
        perturbation: Baseline of the kept view.
        fraction: Of the pixels kept, in (0, 1].
        refine_steps: Gradient steps on each explanation by itself.
        samples: Maps to draw from each posterior: alternative explanations.
        seed: Of the refinement's noise and of the samples.
    """
    pixels = torch.stack([torch.from_numpy(view.pixels) for view in views])
    images = pixels.to(classifier.mean.device).float() / 255
    objective = None
    if refine_steps:
        refined = explainer.refine(images, classifier, steps=refine_steps, seed=seed)
        posterior = refined.posterior
        objective = torch.stack([refined.before, refined.after], dim=1).cpu()
    with torch.inference_mode():
        if not refine_steps:
            posterior = explainer(images)
        baseline = perturbation(images)
        kept_views = perturb(images, posterior.topk_mask(fraction), baseline)
        inclusion = posterior.inclusion_probability(fraction)
        maps = torch.stack([posterior.mean, posterior.stddev, inclusion], dim=1).cpu()
        gallery_inclusion = posterior.inclusion_probability(INCLUSION_FRACTION).cpu()
        confidence = explainer.estimate_confidence(images, posterior).tolist()
        drawn = draw_samples(posterior, samples, seed)
        sample_views = [
            kept_samples(image, maps, base, fraction)
            for image, maps, base in zip(images, drawn, baseline, strict=True)
        ]
        sample_top = [classifier.top(classifier(views)) for views in sample_views if samples]
        logits, kept_logits = classifier(images), classifier(kept_views)
        probabilities = classifier.probabilities(logits).cpu()
        kept_probabilities = classifier.probabilities(kept_logits).cpu()
    top, kept_top = classifier.top(logits), classifier.top(kept_logits)
    images, baseline, kept_views = images.cpu(), baseline.cpu(), kept_views.cpu()
    return [
        Explanation(
            view=view,
            image=images[i],
            baseline=baseline[i],
            kept_view=kept_views[i],
            maps=maps[i],
            gallery_inclusion=gallery_inclusion[i],
            fraction=fraction,
            confidence=confidence[i],
            probabilities=probabilities[i],
            kept_probabilities=kept_probabilities[i],
            predictions=top[i],
            kept_predictions=kept_top[i],
            objective=None if objective is None else objective[i],
            samples=drawn[i].cpu(),
            sample_views=sample_views[i].cpu(),
            sample_predictions=sample_top[i] if samples else [],
        )
        for i, view in enumerate(views)
    ]


def draw_samples(posterior: SaliencyPosterior, number: int, seed: int) -> Tensor:
    """Draw maps for each image with the same noise, whatever else is in its batch: (B, n, h, w)."""
    device = posterior.mean.device
    return torch.stack(
        [
            alone.rsample((number,), generator=torch.Generator(device).manual_seed(seed))
            for alone in posterior.split()
        ]
    )


def kept_samples(image: Tensor, maps: Tensor, baseline: Tensor, fraction: float) -> Tensor:
    """Keep the top pixels of each of n maps (n, h, w) over the baseline: (n, 3, h, w)."""
    scores = maps.flatten(1)
    masks = hard_topk(scores, num_kept(fraction, scores.shape[1])).view_as(maps)
    return perturb(
        image.expand(len(maps), -1, -1, -1), masks, baseline.expand(len(maps), -1, -1, -1)
    )
