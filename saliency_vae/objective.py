"""The objective: Figure 1 of the paper, from the posterior over maps to the loss."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import SaliencyPosterior, SaliencyPrior
from saliency_vae.perturbations import perturb
from saliency_vae.topk import SoftTopK


@dataclass(frozen=True)
class LossTerms:
    """The objective at a batch of images, and what it was made of.

    Attributes:
        loss: reconstruction and, by their weights, kl, complement and mean_penalty, (B,).
        reconstruction: KL(y || y'), y sharpened where asked, (B,), nats per image.
        kl: KL(q || p), (B,), nats per pixel.
        complement: What the classifier still sees in the pixels left out, (B,), nats per image;
            0 where that has no weight.
        mean_penalty: Of the posterior's mean from the prior's, half its mean square, (B,); 0
            where that has no weight.
        mask: Soft top-k of a sample, (B, H, W).
        baseline: Images without information, (B, 3, H, W).
        perturbed: x', the kept pixels over the baseline, (B, 3, H, W).
        original: Logits y of the images, (B, classes).
        prediction: Logits y' of the perturbed images, (B, classes).
    """

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    complement: Tensor
    mean_penalty: Tensor
    mask: Tensor
    baseline: Tensor
    perturbed: Tensor
    original: Tensor
    prediction: Tensor


@dataclass
class Objective:
    """``KL(y || y') + beta KL(q || p) / (h w)`` for one sampled map of each image (the paper).

    Beyond the paper, where asked: the pixels left out must say no more than the baseline does; the
    prediction to reconstruct is sharpened towards the decision; and where nothing is gained the
    posterior's mean stays at the prior's, where a prior of high correlation lets it draw plateaus.

    Args:
        topk: Differentiable top-k with the range of kept fractions.
        perturbation: Baseline that removes information.
        beta: Weight of the KL per pixel, >= 0.
        complement: Weight, >= 0, of KL(M(baseline) || M(complement)), the complement being the
            image without the kept pixels.
        sharpness: Power, > 0, that y is raised to before it is reconstructed: 1 in the paper.
        mean_penalty: Weight, >= 0, of half the mean square of the mean's mean_penalty from the prior's.

    Raises:
        ValueError: If a weight is negative or sharpness is not positive.
    """

    topk: SoftTopK
    perturbation: nn.Module
    beta: float
    complement: float = 0.0
    sharpness: float = 1.0
    mean_penalty: float = 0.0

    def __post_init__(self) -> None:
        for name in ("beta", "complement", "mean_penalty"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Expected {name} >= 0. Found {getattr(self, name)}.")
        if not self.sharpness > 0:
            raise ValueError(f"Expected sharpness > 0. Found {self.sharpness}.")

    def __call__(
        self,
        images: Tensor,
        posterior: SaliencyPosterior,
        prior: SaliencyPrior,
        classifier: FrozenClassifier,
        *,
        original: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LossTerms:
        """Evaluate: Figure 1, from left to right.

        Args:
            images: In [0, 1], (B, 3, H, W).
            posterior: q(s|x) of these images.
            prior: p(s).
            classifier: M, frozen; gradients flow through it into the mask.
            original: Logits y of the images, where they are known already.
            generator: Draws one map's noise and one fraction, the same for every image; by default
                torch draws for each image its own.
        """
        with torch.autocast(images.device.type, enabled=False):  # the mathematics in float32
            saliency, uniform = _sample(posterior, generator)
            mask = self.topk(saliency, uniform)
            baseline = self.perturbation(images)
            perturbed = perturb(images, mask, baseline)
            kl = kl_divergence(posterior, prior) / posterior.event_shape.numel()
        if original is None:
            with torch.no_grad():
                original = classifier(images)
        prediction = classifier(perturbed)
        reconstruction = classifier.divergence(self.sharpness * original, prediction)  # logits
        loss = reconstruction + self.beta * kl
        complement, mean_penalty = torch.zeros_like(loss), torch.zeros_like(loss)
        if self.complement:
            with torch.no_grad():
                nothing = classifier(baseline)
            left_out = classifier(perturb(images, 1 - mask, baseline))
            complement = classifier.divergence(nothing, left_out)
            loss = loss + self.complement * complement
        if self.mean_penalty:
            mean_penalty = (posterior.mean - prior.mean).square().mean((-2, -1)) / 2
            loss = loss + self.mean_penalty * mean_penalty
        return LossTerms(
            loss=loss,
            reconstruction=reconstruction,
            kl=kl,
            complement=complement,
            mean_penalty=mean_penalty,
            mask=mask,
            baseline=baseline,
            perturbed=perturbed,
            original=original,
            prediction=prediction,
        )


def _sample(
    posterior: SaliencyPosterior, generator: torch.Generator | None
) -> tuple[Tensor, Tensor | None]:
    """Draw maps, and what draws the kept fractions where it is the same for every image."""
    if generator is None:
        return posterior.rsample(), None
    device = posterior.mean.device
    noise = torch.randn(posterior.event_shape, generator=generator, device=device)
    return posterior.reparameterise(noise), torch.rand(1, generator=generator, device=device)
