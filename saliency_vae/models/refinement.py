"""Semi-amortised variational inference: optimise each image's posterior separately.

It starts from the encoder's posterior (Kim et al. 2018), or from the prior without any encoder.
"""

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import trange

from saliency_vae.classifiers import FrozenClassifier, check_frozen
from saliency_vae.distributions import (
    Family,
    KroneckerNormal,
    SaliencyPosterior,
    SaliencyPrior,
    make_posterior,
)
from saliency_vae.models.images import check_images
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Blur, is_fixed, needs_batch
from saliency_vae.runtime.autograd import recording_gradients
from saliency_vae.runtime.random import seed, seeded
from saliency_vae.topk import SoftTopK


@dataclass(frozen=True)
class Refinement:
    """A refined posterior.

    Attributes:
        posterior: Posterior after the last step; for an image whose objective did not fall, the
            initial posterior.
        before: Objective of each image before the first step, (B,); in nats, or bounded.
        after: Objective of ``posterior``, with the same noise, (B,).
    """

    posterior: SaliencyPosterior
    before: Tensor
    after: Tensor


@dataclass(frozen=True, kw_only=True)
class RefinementSettings:
    """How a posterior is optimised.

    Attributes:
        steps: Adam steps, >= 0.
        lr: Learning rate of Adam, > 0, in standard deviations of the prior; for a universal
            explainer, in those of each image's own map.
        samples: Maps sampled for each image and step, >= 1.
        anneal: Anneal the top-k temperature to its final value in the first half of the steps.
        evaluations: Noise samples over which the objective before and after is averaged, >= 1.
        seed: Seed of the noise, that of random baseline images included, which is the same for
            every image; torch's global random state is unchanged.
        progress: Show a progress bar.

    Raises:
        ValueError: If a number is out of range, or one other than lr is not whole.
    """

    steps: int
    lr: float = 0.02
    samples: int = 4
    anneal: bool = False
    evaluations: int = 8
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("samples", 1), ("evaluations", 1), ("seed", None)):
            number = getattr(self, name)
            whole = isinstance(number, Integral) and not isinstance(number, bool)
            if not whole or (least is not None and number < least):
                bound = "" if least is None else f" >= {least}"
                raise ValueError(f"Expected {name}{bound}, a whole number. Found {number!r}.")
            object.__setattr__(self, name, int(number))  # torch takes no NumPy integer as seed
        if not isinstance(self.lr, Real) or isinstance(self.lr, bool) or not 0 < self.lr < math.inf:
            raise ValueError(f"Expected lr > 0, a finite number. Found {self.lr!r}.")


class _SameNoise(nn.Module):
    """A random perturbation that draws the same noise for every image of a batch.

    Args:
        perturbation: Module that makes the baseline images.
    """

    def __init__(self, perturbation: nn.Module) -> None:
        super().__init__()
        self.perturbation = perturbation

    def forward(self, images: Tensor) -> Tensor:
        """Make the baseline images of images (B, 3, H, W)."""
        number = int(torch.randint(2**31, ()))  # on the CPU, so that nothing waits for a GPU
        baselines = []
        for image in torch.split(images, 1):
            with seeded(number, images.device):
                baselines.append(self.perturbation(image))
        return torch.cat(baselines)


@dataclass(frozen=True)
class _Problem:
    """Everything that stays fixed while posteriors are optimised."""

    images: Tensor
    original: Tensor
    classifier: FrozenClassifier
    objective: Objective
    prior: SaliencyPrior
    target: Tensor | None = None
    uninformed: Tensor | None = None

    def expected_loss(
        self,
        posterior: SaliencyPosterior,
        generator: torch.Generator,
        *,
        samples: int,
        temperature: float | None = None,
    ) -> Tensor:
        """Mean loss of each image over sampled maps, (B,).

        Each sample is a separate batch. Its noise is the same for every image, so that an
        explanation does not depend on the rest of its batch.
        """
        losses = [self._loss(posterior, generator, temperature) for _ in range(samples)]
        return torch.stack(losses).mean(0)

    def _loss(
        self, posterior: SaliencyPosterior, generator: torch.Generator, temperature: float | None
    ) -> Tensor:
        """Loss of each image for one sampled map, (B,): Figure 1 after the sampling."""
        device = self.images.device
        noise = torch.randn(posterior.event_shape, generator=generator, device=device)
        uniform = torch.rand(1, generator=generator, device=device)
        with torch.autocast(device.type, enabled=False):
            saliency = posterior.reparameterise(noise)
        views = self.objective.views(
            saliency,
            self.images,
            self.original,
            self.classifier,
            target=self.target,
            uninformed=self.uninformed,
            temperature=temperature,
            uniform=uniform,
        )
        return self.objective(views, posterior, self.prior, self.classifier).loss


def refine(
    posterior: SaliencyPosterior,
    images: Tensor,
    classifier: FrozenClassifier,
    *,
    objective: Objective,
    prior: SaliencyPrior,
    settings: RefinementSettings,
    target: Tensor | None = None,
    scale: Tensor | float = 1.0,
) -> Refinement:
    """Minimise each image's objective by gradient steps on its own mean and log-variance.

    The mean is parametrised as ``mu + scale * L z``, with ``L L'`` the prior's covariance. In z the
    KL divergence is isotropic, and smooth changes are cheap.

    Args:
        posterior: Posterior to start from, batch shape (B,).
        images: Images in [0, 1], (B, 3, H, W).
        classifier: Classifier whose prediction is reconstructed.
        objective: Objective to minimise.
        prior: p(s), with which the posterior was made.
        settings: Steps, learning rate, samples, noise.
        target: Target, as weights of the logits (B, classes); None for the whole prediction.
        scale: Factor on ``L z``, in standard deviations of the prior; a number, or one for each
            image, (B, 1, 1), see :func:`spread`.

    Raises:
        ValueError: If the classifier is not a :class:`FrozenClassifier`.
    """
    check_frozen(classifier)
    random = not is_fixed(objective.perturbation)
    if random and not needs_batch(objective.perturbation):
        objective = replace(objective, perturbation=_SameNoise(objective.perturbation))
    with recording_gradients(), seeded(settings.seed, images.device):
        images = images.detach().clone()
        target = None if target is None else target.detach().clone()
        scale = scale.detach().clone() if isinstance(scale, Tensor) else scale
        with torch.no_grad():
            original, uninformed = classifier(images), None
            if objective.complement and not random:
                uninformed = classifier(objective.perturbation(images))
        problem = _Problem(images, original, classifier, objective, prior, target, uninformed)
        return _optimise(posterior, problem, settings, scale)


def spread(posterior: SaliencyPosterior) -> Tensor:
    """Standard deviation over the pixels of a sampled map, (B, 1, 1)."""
    mean, stddev = posterior.mean, posterior.stddev
    of_mean = mean.var((-2, -1), correction=0, keepdim=True)
    return (of_mean + stddev.square().mean((-2, -1), keepdim=True)).sqrt()


def _optimise(
    posterior: SaliencyPosterior,
    problem: _Problem,
    settings: RefinementSettings,
    scale: Tensor | float,
) -> Refinement:
    """Minimise the expected loss, which is measured before and after with the same noise."""
    generator = torch.Generator(problem.images.device)
    start = posterior.mean.detach().clone()
    start_log_variance = posterior.log_variance.detach().clone()
    offset = torch.zeros_like(start, requires_grad=True)
    log_variance = start_log_variance.clone().requires_grad_()

    def current() -> SaliencyPosterior:
        return posterior.like(start + scale * problem.prior.colour(offset), log_variance)

    def start_noise(number: int) -> None:
        generator.manual_seed(number)
        seed(number, generator.device)  # for random baseline images

    def measure() -> Tensor:
        start_noise(settings.seed)
        with torch.no_grad():
            return problem.expected_loss(current(), generator, samples=settings.evaluations)

    before = measure()
    optimizer = torch.optim.Adam([offset, log_variance], lr=settings.lr)
    start_noise(settings.seed + 1)
    for step in trange(settings.steps, desc="Refining", disable=not settings.progress, leave=False):
        temperature = problem.objective.topk.annealed(
            2 * step / settings.steps if settings.anneal else 1.0
        )
        optimizer.zero_grad()
        loss = problem.expected_loss(
            current(), generator, samples=settings.samples, temperature=temperature
        )
        torch.autograd.backward(loss.sum())
        optimizer.step()
    after = measure()
    with torch.no_grad():
        better, moved = (after < before)[:, None, None], current()
        mean = torch.where(better, moved.mean, start)
        log_variance = torch.where(better, moved.log_variance, start_log_variance)
        return Refinement(
            posterior.like(mean, log_variance), before, torch.where(after < before, after, before)
        )


def explain_without_training(
    images: Tensor,
    classifier: FrozenClassifier,
    *,
    prior: SaliencyPrior | None = None,
    family: Family = "mean_field",
    objective: Objective | None = None,
    target: Tensor | None = None,
    **settings: Any,
) -> Refinement:
    """Explain images without a trained encoder: optimise, starting from the prior.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        classifier: Classifier to explain.
        prior: p(s) over maps (H, W); exponential with correlation 0.9 by default.
        family: Family of the posterior, ``mean_field`` or ``correlated``.
        objective: By default equation 1 of the paper with a blur of H / 6 pixels and a final
            temperature of 0.1.
        target: Target, as weights of the logits (B, classes); None for the whole prediction.
        settings: Fields of :class:`RefinementSettings`; by default 200 annealed steps with a
            learning rate of 0.05.

    Raises:
        ValueError: If the images are not floating-point (B, 3, H, W) in [0, 1], a setting is
            out of its range, or the classifier is not a :class:`FrozenClassifier`.
    """
    check_images(images)
    height, width = images.shape[-2:]
    if prior is None:
        prior = KroneckerNormal(height, width, device=images.device)
    if objective is None:
        topk = SoftTopK((0.05, 0.3), temperature=0.1, initial_temperature=0.3)
        objective = Objective(topk, Blur(height / 6), beta=0.1)
    # Start from the member of the family that is closest to the prior.
    variance = 1 / prior.precision_diagonal if family == "mean_field" else prior.variance
    mean = prior.mean.expand_as(images[:, 0])
    posterior = make_posterior(family, mean, variance.log().expand_as(mean), prior)
    return refine(
        posterior,
        images,
        classifier,
        objective=objective,
        prior=prior,
        target=target,
        settings=RefinementSettings(**{"steps": 200, "lr": 0.05, "anneal": True} | settings),
    )
