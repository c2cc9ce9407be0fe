"""The objective: reconstruct the classifier's prediction, and stay close to the prior.

This is the right half of Figure 1 of the paper, from a sampled map to the loss of equation 1, with
three extensions that are off by default. The left half, from the image to the sample, is
:meth:`saliency_vae.training.module.VariationalSaliency.step`.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.divergences import bernoulli_kl
from saliency_vae.distributions import SaliencyPosterior, SaliencyPrior
from saliency_vae.perturbations import perturb
from saliency_vae.topk import SoftTopK


@dataclass(frozen=True)
class MaskedViews:
    """Masked images, and what the classifier predicts for them.

    Attributes:
        images: Images x in [0, 1], (B, 3, H, W).
        mask: Mask m, the soft top-k of a sampled map, (B, H, W).
        baseline: Baseline images, (B, 3, H, W).
        perturbed: Perturbed images x' = m x + (1 - m) baseline, (B, 3, H, W).
        original: Logits of y = M(x), (B, classes).
        prediction: Logits of y' = M(x'), (B, classes).
        target: Target, as weights of the logits (B, classes); None for the whole prediction, as in
            the paper.
        uninformed: Logits of the baseline images, (B, classes), if the loss needs them.
        left_out: Logits of the images without the kept pixels, (B, classes), if the loss needs
            them.
        soft: Mask before hardening, (B, H, W); the same where the top-k does not harden it.
    """

    images: Tensor
    mask: Tensor
    baseline: Tensor
    perturbed: Tensor
    original: Tensor
    prediction: Tensor
    target: Tensor | None = None
    uninformed: Tensor | None = None
    left_out: Tensor | None = None
    soft: Tensor | None = None

    def first(self, number: int) -> Self:
        """Keep only the first views."""
        return replace(
            self,
            **{name: each[:number] for name, each in self.__dict__.items() if each is not None},
        )


@dataclass(frozen=True)
class LossTerms:
    """The loss of each image and its terms, (B,) each.

    Attributes:
        loss: Weighted sum of the terms below.
        reconstruction: KL(y || y'), or -log p'(target) where there is a target, nats per image.
        kl: KL(q || p), nats per pixel.
        complement: KL(M(baseline) || M(image without the kept pixels)), nats per image; 0 if its
            weight is 0.
        mean_penalty: Half the mean squared difference of posterior and prior mean; 0 if its weight
            is 0.
    """

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    complement: Tensor
    mean_penalty: Tensor


@dataclass(frozen=True)
class Objective:
    """``KL(y || y') + beta KL(q || p) / (h w)``, equation 1 of the paper for one sampled map.

    Extensions beyond the paper, each with its own weight: the left-out pixels should tell the
    classifier no more than the baseline image does (complement); the reconstructed prediction is
    sharpened towards the decision (sharpness); and an L2 penalty keeps the posterior mean at the
    prior mean where moving gains nothing and the prior alone allows plateaus (mean_penalty).

    Args:
        topk: Differentiable top-k with the range of kept fractions.
        perturbation: Module that makes the baseline images.
        beta: Weight of the KL divergence per pixel, >= 0.
        complement: Weight of KL(M(baseline) || M(image without the kept pixels)), >= 0.
        sharpness: Inverse temperature of the prediction to reconstruct, > 0; 1 in the paper.
        mean_penalty: Weight of the L2 penalty on posterior mean minus prior mean, >= 0.
        samples: Maps sampled for each image in a training step, >= 1, each with its own kept
            fraction and baseline image; 1 in the paper.

    Raises:
        ValueError: If a weight is negative, sharpness is not positive or samples is less than one.
    """

    topk: SoftTopK
    perturbation: nn.Module
    beta: float
    complement: float = 0.0
    sharpness: float = 1.0
    mean_penalty: float = 0.0
    samples: int = 1

    def __post_init__(self) -> None:
        for name in ("beta", "complement", "mean_penalty"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Expected {name} >= 0. Found {getattr(self, name)}.")
        if not self.sharpness > 0:
            raise ValueError(f"Expected sharpness > 0. Found {self.sharpness}.")
        if self.samples < 1:
            raise ValueError(f"Expected samples >= 1. Found {self.samples}.")

    def __call__(
        self,
        views: MaskedViews,
        posterior: SaliencyPosterior,
        prior: SaliencyPrior,
        classifier: FrozenClassifier,
    ) -> LossTerms:
        """Compute the loss of masked views.

        Args:
            views: Images masked by maps sampled from the posterior; with n samples of each image,
                (n x B, ...): the whole batch n times over.
            posterior: q(s|x) of these images, batch shape (B,).
            prior: p(s).
            classifier: M, frozen; gradients flow through it into the mask.
        """
        reconstruction = _of_images(self._reconstruction(views, classifier), posterior)
        with torch.autocast(views.images.device.type, enabled=False):
            kl = kl_divergence(posterior, prior) / posterior.event_shape.numel()
        loss = reconstruction + self.beta * kl
        complement, mean_penalty = torch.zeros_like(loss), torch.zeros_like(loss)
        if self.complement:
            complement = _of_images(_complement(views, classifier), posterior)
            loss = loss + self.complement * complement
        if self.mean_penalty:
            mean_penalty = (posterior.mean - prior.mean).square().mean((-2, -1)) / 2
            loss = loss + self.mean_penalty * mean_penalty
        return LossTerms(loss, reconstruction, kl, complement, mean_penalty)

    def views(
        self,
        saliency: Tensor,
        images: Tensor,
        original: Tensor,
        classifier: FrozenClassifier,
        *,
        target: Tensor | None = None,
        uninformed: Tensor | None = None,
        temperature: float | None = None,
        uniform: Tensor | None = None,
    ) -> MaskedViews:
        """Mask images by the soft top-k of sampled maps, and classify them.

        Args:
            saliency: Sampled maps s, (B, H, W).
            images: Images x in [0, 1], (B, 3, H, W).
            original: Logits of y = M(x), (B, classes).
            classifier: M, frozen; it sees all views in one pass.
            target: Target, as weights of the logits (B, classes); None for the whole prediction.
            uninformed: Logits of the baseline images, (B, classes), if already known.
            temperature: Temperature of the top-k; by default the final one.
            uniform: Random numbers in [0, 1) that choose the kept fractions, (1,) or (B,).
        """
        with torch.autocast(images.device.type, enabled=False):  # computed in float32
            soft = self.topk.soft(saliency, temperature=temperature, uniform=uniform)
            mask = self.topk.hardened(soft)  # sum(m) = k
            baseline = self.perturbation(images)
            seen = perturbed = perturb(images, mask, baseline)  # x' = m x + (1 - m) baseline
            if self.complement:
                seen = torch.cat([perturbed, perturb(images, 1 - mask, baseline)])
        prediction, *left_out = classifier(seen).split(images.shape[0])  # y' = M(x')
        if self.complement and uninformed is None:
            with torch.no_grad():
                uninformed = classifier(baseline)
        return MaskedViews(
            images,
            mask,
            baseline,
            perturbed,
            original,
            prediction,
            target=target,
            uninformed=uninformed,
            left_out=left_out[0] if left_out else None,
            soft=soft,
        )

    def _reconstruction(self, views: MaskedViews, classifier: FrozenClassifier) -> Tensor:
        """KL(sharpened y || y'), or -log p'(target), its limit for a softmax's decision."""
        if views.target is not None:
            return -classifier.log_probability(views.prediction, views.target)
        sharpened = self.sharpness * views.original  # logits
        return classifier.divergence(sharpened, views.prediction)


def _of_images(terms: Tensor, posterior: SaliencyPosterior) -> Tensor:
    """Mean over the samples of each image, (n x B,) to (B,)."""
    return terms.view(-1, *posterior.batch_shape).mean(0)


def _complement(views: MaskedViews, classifier: FrozenClassifier) -> Tensor:
    """KL(M(baseline) || M(left-out view)), (B,): what the left-out pixels still tell.

    With a target, only the probabilities of the target are compared.
    """
    uninformed, left_out = views.uninformed, views.left_out
    if uninformed is None or left_out is None:
        raise ValueError(
            "Expected views with logits of the pixels left out and of the baseline images. Found "
            "none: make them by the views() of this objective, whose complement is not 0."
        )
    if views.target is None:
        return classifier.divergence(uninformed, left_out)
    odds = [classifier.each_log_odds(logits, views.target) for logits in (uninformed, left_out)]
    return bernoulli_kl(*odds)
