"""Per-image optimisation: fit the posterior of each image separately, without an encoder."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn import functional as F

from saliency_vae.baselines.target_score import target_of
from saliency_vae.classifiers import FrozenClassifier, bernoulli_kl
from saliency_vae.data import Batch
from saliency_vae.distributions import DiagonalNormal, KroneckerNormal
from saliency_vae.perturbations import blurred, perturb
from saliency_vae.runtime.autograd import recording_gradients
from saliency_vae.topk import SoftTopK


@dataclass(frozen=True)
class PerImageOptimisation:
    """Posterior mean of a coarse map, optimised for each image without an encoder.

    The coarse map is enlarged bilinearly before the soft top-k. With log-odds z of the target, the
    loss adds up ``softplus(-z(kept view))``, the complement ``KL(Bernoulli(baseline's probability)
    || Bernoulli(left-out view's))`` and the divergence from the prior. The first two are summed
    over several labels. Each step samples one map per image and classifies its kept view and its
    left-out view: two passes. One more pass classifies the baseline image, a blur by a sixth of the
    shorter side.

    Args:
        steps: Number of Adam steps.
        grid: Height and width of the map.
        lr: Learning rate of Adam.
        temperature: Temperature of the soft top-k at the end; at the start it is three times that.
        complement: Weight of the complement.
        beta: Weight of the divergence from the prior, per pixel of the map.
        correlation: Correlation of adjacent pixels of the map under the prior.
        seed: Seed of the noise and the fractions, which are the same for every image.

    Raises:
        ValueError: If a number is out of range.
    """

    steps: int = 60
    grid: int = 32
    lr: float = 0.1
    temperature: float = 0.1
    complement: float = 3.0
    beta: float = 0.1
    correlation: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.grid < 2 or not self.lr > 0:
            raise ValueError(
                "Expected steps >= 1, grid >= 2 and lr > 0. "
                f"Found {self.steps}, {self.grid} and {self.lr}."
            )

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        with recording_gradients():
            images, target = batch["image"].detach().clone(), target_of(batch, classifier)
            views = _Views(images, target, classifier)
            return views.enlarged(self._optimise(views)).detach()

    def _optimise(self, views: "_Views") -> Tensor:
        """Optimise posterior means (B, grid, grid) in coordinates where the prior is white."""
        images = views.images
        shape = self.grid, self.grid
        prior = KroneckerNormal(*shape, correlation=self.correlation, device=images.device)
        offset = images.new_zeros(len(images), *shape, requires_grad=True)
        start = -prior.precision_diagonal.log()  # the mean-field Gaussian nearest to the prior
        log_variance = start.repeat(len(images), 1, 1).requires_grad_()
        topk = SoftTopK((0.02, 0.9), self.temperature, initial_temperature=3 * self.temperature)
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam([offset, log_variance], lr=self.lr)
        for step in range(self.steps):
            noise = torch.randn(shape, generator=generator).to(images)
            uniform = torch.rand(1, generator=generator).to(images)
            posterior = DiagonalNormal(prior.colour(offset), log_variance)
            maps = views.enlarged(posterior.reparameterise(noise))
            temperature = topk.annealed(2 * step / self.steps)
            kept, left_out = views.divergences(topk(maps, temperature=temperature, uniform=uniform))
            kl = kl_divergence(posterior, prior) / offset[0].numel()
            loss = kept + self.complement * left_out + self.beta * kl
            optimizer.zero_grad()
            torch.autograd.backward(loss.sum())
            optimizer.step()
        return prior.colour(offset)


class _Views:
    """Images, their targets, and the losses of their masked views."""

    def __init__(self, images: Tensor, target: Tensor, classifier: FrozenClassifier) -> None:
        self.images, self.target, self.classifier = images, target, classifier
        self.baseline = blurred(images)
        with torch.no_grad():
            self.uninformed = classifier.each_log_odds(classifier(self.baseline), target)

    def enlarged(self, maps: Tensor) -> Tensor:
        """Enlarge maps (B, h, w) to the size of the images."""
        return F.interpolate(maps[:, None], self.images.shape[-2:], mode="bilinear")[:, 0]

    def divergences(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of the kept view, and complement of the left-out view, (B,) each, nats."""
        images, baseline = self.images.repeat(2, 1, 1, 1), self.baseline.repeat(2, 1, 1, 1)
        logits = self.classifier(perturb(images, torch.cat([mask, 1 - mask]), baseline))
        odds = self.classifier.each_log_odds(logits, self.target.repeat(2, 1))
        kept, left_out = odds.chunk(2)
        return F.softplus(-kept).sum(1), bernoulli_kl(self.uninformed, left_out)
