"""Semi-amortised variational inference: optimise the posterior of each image by itself."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from tqdm import trange

from saliency_vae.classifiers import FrozenClassifier, check_frozen
from saliency_vae.distributions import (
    Family,
    KroneckerNormal,
    SaliencyPosterior,
    SaliencyPrior,
    make_posterior,
)
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Blur
from saliency_vae.topk import SoftTopK

_EVALUATIONS = 8  # noise draws that the objective before and after is averaged over


@dataclass(frozen=True)
class Refinement:
    """A refined posterior.

    Attributes:
        posterior: After the last step.
        before: Objective of each image before the first step, (B,), nats per image.
        after: Objective after the last, with the same noise, (B,).
    """

    posterior: SaliencyPosterior
    before: Tensor
    after: Tensor


def refine(
    posterior: SaliencyPosterior,
    images: Tensor,
    classifier: FrozenClassifier,
    *,
    objective: Objective,
    prior: SaliencyPrior,
    steps: int,
    lr: float = 0.02,
    samples: int = 4,
    anneal: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Refinement:
    """Lower the objective of each image by gradient steps on its own mean and log-variance.

    The mean moves in the prior's coordinates, ``mu + L z`` with ``L L'`` the prior's covariance:
    there the KL divergence is round, and smooth changes are cheap.

    Args:
        posterior: To start from, batch shape (B,).
        images: In [0, 1], (B, 3, H, W).
        classifier: Whose prediction is reconstructed.
        objective: To lower.
        prior: p(s), which the posterior was made with.
        steps: Adam steps, >= 0.
        lr: Of Adam.
        samples: Maps drawn for each image and step.
        anneal: Let the temperature of the top-k fall to its final value in the first half.
        seed: Of the noise, which is the same for every image; torch's own random numbers stay as
            they were.
        progress: Show a progress bar.

    Raises:
        ValueError: If steps is negative or the classifier is none of ours.
    """
    check_frozen(classifier)
    if steps < 0:
        raise ValueError(f"Expected refine_steps >= 0. Found {steps}.")
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices):
        generator = torch.Generator(images.device)
        images = images.detach().clone()
        start = posterior.mean.detach().clone()
        offset = torch.zeros_like(start, requires_grad=True)
        log_variance = posterior.log_variance.detach().clone().requires_grad_()
        with torch.no_grad():
            original = classifier(images)

        def current() -> SaliencyPosterior:
            return posterior.like(start + prior.colour(offset), log_variance)

        def loss(draws: int) -> Tensor:
            q = current()
            evaluate = partial(objective, images, q, prior, classifier, original=original)
            # Each draw is a batch of its own: the memory stays that of one. Its noise is the same
            # for every image: so an image's explanation does not depend on the others.
            return torch.stack([evaluate(generator=generator).loss for _ in range(draws)]).mean(0)

        def measure() -> Tensor:
            generator.manual_seed(seed)
            torch.manual_seed(seed)  # of a perturbation that is random
            objective.topk.anneal(1.0)
            with torch.no_grad():
                return loss(_EVALUATIONS)

        before = measure()
        optimizer = torch.optim.Adam([offset, log_variance], lr=lr)
        generator.manual_seed(seed + 1)
        torch.manual_seed(seed + 1)
        for step in trange(steps, desc="Refining", disable=not progress, leave=False):
            objective.topk.anneal(2 * step / steps if anneal else 1.0)
            optimizer.zero_grad()
            torch.autograd.backward(loss(samples).sum())
            optimizer.step()
        after = measure()
        with torch.no_grad():
            return Refinement(current(), before, after)


def explain_without_training(
    images: Tensor,
    classifier: FrozenClassifier,
    *,
    steps: int = 200,
    prior: SaliencyPrior | None = None,
    family: Family = "mean_field",
    objective: Objective | None = None,
    lr: float = 0.05,
    samples: int = 4,
    seed: int = 0,
    progress: bool = False,
) -> Refinement:
    """Explain images with no trained encoder: optimise from the prior.

    Args:
        images: In [0, 1], (B, 3, H, W).
        classifier: To explain.
        steps: Adam steps.
        prior: p(s) over maps (H, W); exponential with correlation 0.9 by default.
        family: Of the posterior: ``mean_field`` or ``correlated``.
        objective: By default that of the image alone without complement, with a blur of H / 6
            pixels and a final temperature of 0.1.
        lr: Of Adam.
        samples: Maps drawn for each image and step.
        seed: Of the noise.
        progress: Show a progress bar.
    """
    height, width = images.shape[-2:]
    if prior is None:
        prior = KroneckerNormal(height, width, device=images.device)
    if objective is None:
        topk = SoftTopK((0.05, 0.3), temperature=0.1, initial_temperature=0.3)
        objective = Objective(topk, Blur(height / 6), beta=0.1)
    # The member of the family that is nearest to the prior.
    variance = 1 / prior.precision_diagonal if family == "mean_field" else prior.variance
    mean = prior.mean.expand_as(images[:, 0])
    posterior = make_posterior(family, mean, variance.log().expand_as(mean), prior)
    return refine(
        posterior,
        images,
        classifier,
        objective=objective,
        prior=prior,
        steps=steps,
        lr=lr,
        samples=samples,
        anneal=True,
        seed=seed,
        progress=progress,
    )
