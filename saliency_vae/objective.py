"""The objective: reconstruct the classifier's prediction, and stay close to the prior.

This is the right half of Figure 1 of the paper, from a sampled map to the loss of equation 1, with
three extensions that are off by default. The left half, from the image to the sample, is
:meth:`saliency_vae.training.module.VariationalSaliency.step`.
"""

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.divergences import bernoulli_kl
from saliency_vae.distributions import SaliencyPosterior, SaliencyPrior
from saliency_vae.perturbations import perturb
from saliency_vae.topk import SoftTopK

Distance = Literal["kl", "total_variation"]  # of two predictions


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
        reconstruction: KL(y || y'), or -log p'(target) where there is a target, nats per image;
            with ``distance="total_variation"`` TV(y, y') or 1 - p'(target), in [0, 1].
        kl: KL(q || p), nats per pixel.
        complement: KL(M(baseline) || M(image without the kept pixels)), nats per image; 0 if its
            weight is 0; with total variation likewise that distance.
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
    sharpened towards the decision (sharpness); an L2 penalty keeps the posterior mean at the
    prior mean where moving gains nothing and the prior alone allows plateaus (mean_penalty); and
    predictions can be compared by their total variation distance (distance). It is bounded: a view
    whose prediction is hopeless cannot outweigh all others, as it does in a logarithm.

    Args:
        topk: Differentiable top-k with the range of kept fractions.
        perturbation: Module that makes the baseline images.
        beta: Weight of the KL divergence per pixel, >= 0.
        complement: Weight of KL(M(baseline) || M(image without the kept pixels)), >= 0.
        sharpness: Inverse temperature of the prediction to reconstruct, > 0; 1 in the paper.
        mean_penalty: Weight of the L2 penalty on posterior mean minus prior mean, >= 0.
        samples: Maps sampled for each image in a training step, >= 1, each with its own kept
            fraction and baseline image; 1 in the paper.
        distance: Distance of two predictions: ``kl``, as in the paper, or ``total_variation``.

    Raises:
        ValueError: If a weight is negative, sharpness is not positive, samples is less than one or
            the distance is unknown.
    """

    topk: SoftTopK
    perturbation: nn.Module
    beta: float
    complement: float = 0.0
    sharpness: float = 1.0
    mean_penalty: float = 0.0
    samples: int = 1
    distance: Distance = "kl"

    def __post_init__(self) -> None:
        for name in ("beta", "complement", "mean_penalty"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Expected {name} >= 0. Found {getattr(self, name)}.")
        if not self.sharpness > 0:
            raise ValueError(f"Expected sharpness > 0. Found {self.sharpness}.")
        if self.samples < 1:
            raise ValueError(f"Expected samples >= 1. Found {self.samples}.")
        if self.distance not in get_args(Distance):
            raise ValueError(
                f"Expected distance {' or '.join(get_args(Distance))}. Found {self.distance}."
            )

    def bounded(self) -> Self:
        """Return this objective with predictions compared by their total variation distance.

        The divergence from the prior and the penalty on the mean weigh a quarter of what they did,
        because this distance of two predictions is about a quarter of their KL divergence.
        """
        if self.distance == "total_variation":
            return self
        return replace(
            self,
            distance="total_variation",
            beta=self.beta / 4,
            mean_penalty=self.mean_penalty / 4,
        )

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
            complement = _of_images(self._complement(views, classifier), posterior)
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
        """Distance of y' from the sharpened y, or from certainty of the target."""
        bounded = self.distance == "total_variation"
        if views.target is not None:  # the limit for a softmax's decision
            if bounded:
                return 1 - classifier.probability(views.prediction, views.target)
            return -classifier.log_probability(views.prediction, views.target)
        sharpened = self.sharpness * views.original  # logits
        return self._between(sharpened, views.prediction, classifier)

    def _complement(self, views: MaskedViews, classifier: FrozenClassifier) -> Tensor:
        """Distance of M(left-out view) from M(baseline), (B,): what left-out pixels still tell.

        With a target, only the probabilities of the target are compared.
        """
        uninformed, left_out = views.uninformed, views.left_out
        if uninformed is None or left_out is None:
            raise ValueError(
                "Expected views with logits of the pixels left out and of the baseline images. "
                "Found none: make them by the views() of this objective, whose complement is not 0."
            )
        if views.target is None:
            return self._between(uninformed, left_out, classifier)
        if self.distance == "total_variation":
            told = [classifier.probability(y, views.target) for y in (uninformed, left_out)]
            return (told[1] - told[0]).abs()
        odds = [classifier.each_log_odds(y, views.target) for y in (uninformed, left_out)]
        return bernoulli_kl(*odds)

    def _between(self, y: Tensor, prediction: Tensor, classifier: FrozenClassifier) -> Tensor:
        """Distance of two predictions, given as logits (B, classes): (B,)."""
        if self.distance == "kl":
            return classifier.divergence(y, prediction)
        return classifier.total_variation(y, prediction)


def _of_images(terms: Tensor, posterior: SaliencyPosterior) -> Tensor:
    """Mean over the samples of each image, (n x B,) to (B,)."""
    return terms.view(-1, *posterior.batch_shape).mean(0)
