"""How sampled maps deviate from their mean, and controls of the same total variance."""

import torch
from torch import Tensor

from saliency_vae.distributions import SaliencyPosterior, SaliencyPrior
from saliency_vae.evaluation.roles import Role

SAMPLED = "sampled maps"
ISOTROPIC = "isotropic noise"
SHUFFLED = "shuffled variances"
REVERSED = "reversed variances"
DISTANT = "noise by distance from the threshold"
SMOOTH = "smooth noise"
ROLES = {
    SAMPLED: Role.EXPLAINER,
    ISOTROPIC: Role.CONTROL,
    SHUFFLED: Role.CONTROL,
    REVERSED: Role.CONTROL,
    DISTANT: Role.CONTROL,
    SMOOTH: Role.CONTROL,
}


def deviations(
    posterior: SaliencyPosterior,
    prior: SaliencyPrior,
    kept: Tensor,
    *,
    samples: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Draw the deviations of sampled maps, and of controls, from the mean of one image's posterior.

    All use the same white noise, and have the same variance summed over the pixels. The controls
    with shuffled, reversed and distance-based variances keep the correlation of the posterior.

    Args:
        posterior: Posterior of one image, batch shape ().
        prior: Prior, which sets the correlation of the smooth noise.
        kept: Kept set of the mean, (H, W) bool. Its least salient pixel is the threshold from which
            distances are measured.
        samples: Number of maps.
        generator: CPU generator of the noise and of the order of shuffled variances.

    Returns:
        Name to deviations, (samples, H, W).
    """
    mean, variance = posterior.mean, posterior.variance
    noise = torch.randn(samples, *mean.shape, generator=generator).to(mean)
    sampled = posterior.reparameterise(noise) - mean
    correlated = posterior.correlate(noise)
    ordered, order = variance.flatten().sort()
    turned = torch.empty_like(ordered).scatter(0, order, ordered.flip(0)).view_as(mean)
    places = torch.stack(
        [torch.randperm(mean.numel(), generator=generator) for _ in range(samples)]
    ).to(mean.device)
    squared = (mean - mean[kept].min()).square()
    distant = squared * (variance.sum() / squared.sum().clamp_min(torch.finfo(mean.dtype).tiny))
    common = variance.mean().sqrt()
    return {
        SAMPLED: sampled,
        ISOTROPIC: common * noise,
        SHUFFLED: variance.flatten()[places].view_as(noise).sqrt() * correlated,
        REVERSED: turned.sqrt() * correlated,
        DISTANT: distant.sqrt() * correlated,
        SMOOTH: common * prior.colour(noise) / prior.stddev,
    }
