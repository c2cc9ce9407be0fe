"""The encoder's answer: a Gaussian over the saliency map of each image."""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from saliency_vae.distributions.prior import SaliencyPrior
from saliency_vae.topk import hard_topk, num_kept, threshold

INCLUSION_FRACTION = 0.1  # of the pixels, where one inclusion probability must do
_SPREAD_SAMPLES = 256  # a standard error of 4 % of the spread, .01 of a probability


class SaliencyPosterior(Distribution):
    """Gaussian q(s|x) over the saliency maps of a batch of images.

    ``judge`` gives its confidence; the explainer that makes the posterior sets it.

    Args:
        mean: (..., h, w).
        log_variance: eta = log nu, (..., h, w).

    Raises:
        ValueError: If the two shapes differ or are not at least (h, w).
    """

    support = constraints.independent(constraints.real, 2)  # type: ignore[no-untyped-call]  # torch's
    arg_constraints = {}  # noqa: RUF012 (the name and form that Distribution asks for)
    has_rsample = True

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        if mean.shape != log_variance.shape or mean.ndim < 2:
            raise ValueError(
                "Expected mean and log_variance of one shape (..., h, w). "
                f"Found {tuple(mean.shape)} and {tuple(log_variance.shape)}."
            )
        self._mean = mean
        self.log_variance = log_variance
        self.estimate_confidence: Callable[[SaliencyPosterior], Tensor] | None = None
        super().__init__(mean.shape[:-2], mean.shape[-2:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Posterior mean mu, (..., h, w)."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Posterior variance nu of each pixel, (..., h, w)."""
        return self.log_variance.exp()

    @cached_property
    def stddev(self) -> Tensor:
        """Posterior standard deviation of each pixel, (..., h, w)."""
        return (self.log_variance / 2).exp()

    def rsample(
        self, sample_shape: _size = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw maps, sample_shape + (..., h, w), with gradients to mean and variance.

        Args:
            sample_shape: Number of samples.
            generator: Random numbers to use, of the same device; torch's own by default.
        """
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(
            shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype
        )
        return self.reparameterise(noise)

    def reparameterise(self, noise: Tensor) -> Tensor:
        """Turn white noise, broadcastable to (..., h, w), into maps: ``mu + sigma eps``."""
        return self.mean + self.stddev * self.correlate(noise)

    @abstractmethod
    def correlate(self, noise: Tensor) -> Tensor:
        """Give white noise (..., h, w) the correlation of the maps, its variance staying 1."""

    @abstractmethod
    def like(self, mean: Tensor, log_variance: Tensor) -> "SaliencyPosterior":
        """Make one of the same family, with the same correlation, of another mean and variance."""

    def split(self) -> list["SaliencyPosterior"]:
        """Posterior of each image of a batch (B,) by itself, batch shape ()."""
        return [self.like(*one) for one in zip(self.mean, self.log_variance, strict=True)]

    @cached_property
    def confidence(self) -> Tensor:
        """Probability that the top 5 % of pixels keep the classifier's decision, (...), in [0, 1].

        Raises:
            ValueError: If no explainer with a confidence network made this posterior.
        """
        if self.estimate_confidence is None:
            raise ValueError(
                "Expected the posterior of an explainer with a confidence network. Found another."
            )
        return self.estimate_confidence(self)

    def map_agreement(self, fraction: float) -> Tensor:
        """How far sampled maps agree with the mean on the top ``fraction`` of pixels.

        Returns:
            The share of the mean's top pixels that those of a sampled map are expected to hold,
            (...): 1 if every plausible map marks the same, ``fraction`` if chance alone does.
        """
        probability, mask = self.inclusion_probability(fraction), self.topk_mask(fraction)
        return (probability * mask).sum((-2, -1)) / mask.sum((-2, -1))

    def topk_mask(self, fraction: float) -> Tensor:
        """Mark the given fraction of pixels with the highest mean.

        Args:
            fraction: In (0, 1].

        Returns:
            Boolean mask, (..., h, w).
        """
        scores = self.mean.flatten(-2)
        return hard_topk(scores, num_kept(fraction, scores.shape[-1])).view(self.mean.shape)

    def inclusion_probability(self, fraction: float) -> Tensor:
        """Probability that a pixel is among the top ``fraction`` of a sampled map.

        ``Phi((mu - t) / tau)`` with the threshold t at which the probabilities sum to k, and tau
        the standard deviation of a pixel's distance from the threshold of its own map.

        Args:
            fraction: In (0, 1].

        Returns:
            Probability, (..., h, w), summing to k over a map.
        """
        mean, spread = self.mean.flatten(-2), self._spread(fraction).flatten(-2)
        k = num_kept(fraction, mean.shape[-1])
        t = threshold(mean, spread, k, cdf=torch.special.ndtr, quantile=torch.special.ndtri)
        probability: Tensor = torch.special.ndtr((mean - t) / spread)
        return probability.view(self.mean.shape)

    @abstractmethod
    def _spread(self, fraction: float) -> Tensor:
        """Standard deviation of a pixel's distance from the threshold of its map, (..., h, w)."""


class DiagonalNormal(SaliencyPosterior):
    """The paper's posterior N(mu, diag(nu)): pixels independent given the image."""

    def _spread(self, fraction: float) -> Tensor:
        """Its own: with thousands of independent pixels the threshold of a map hardly varies."""
        return self.stddev

    def correlate(self, noise: Tensor) -> Tensor:
        """Leave the noise white: a sample is ``mu + exp(eta/2) eps``."""
        return noise

    def like(self, mean: Tensor, log_variance: Tensor) -> SaliencyPosterior:
        """Make another, independent too."""
        return DiagonalNormal(mean, log_variance)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, (..., h, w) to (...), in nats."""
        z = (value - self.mean) / self.stddev
        return -0.5 * (z.square() + self.log_variance + math.log(2 * math.pi)).sum((-2, -1))

    def entropy(self) -> Tensor:
        """Differential entropy, (...), in nats."""
        return 0.5 * (self.log_variance + math.log(2 * math.pi) + 1).sum((-2, -1))


class CorrelatedNormal(SaliencyPosterior):
    """Posterior N(mu, D C D), D = diag(sigma), C the prior's own correlation (ours).

    Samples are as smooth as the prior's, and q = p is within reach: no KL floor.

    Args:
        mean: (..., h, w).
        log_variance: Of each pixel, (..., h, w).
        prior: Whose correlation matrix is taken.

    Raises:
        ValueError: If the shapes disagree.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor, prior: SaliencyPrior) -> None:
        super().__init__(mean, log_variance)
        if self.event_shape != prior.event_shape:
            raise ValueError(
                f"Expected a prior over maps of {tuple(self.event_shape)}. "
                f"Found {tuple(prior.event_shape)}."
            )
        self.prior = prior

    def _spread(self, fraction: float) -> Tensor:
        """Standard deviation of a pixel's distance from the threshold of its map, over samples.

        What moves all pixels moves the threshold with them, and leaves their order as it is. The
        noise is the same at every call and for every image.
        """
        device, dtype = self.mean.device, self.mean.dtype
        generator = torch.Generator(device).manual_seed(0)
        k = num_kept(fraction, self.event_shape.numel())
        total = squares = torch.zeros_like(self.mean)
        for _ in range(_SPREAD_SAMPLES):
            noise = torch.randn(self.event_shape, generator=generator, device=device, dtype=dtype)
            sample = self.reparameterise(noise)
            border = sample.flatten(-2).topk(k).values[..., -1, None, None]
            deviation = sample - self.mean - border
            total, squares = total + deviation, squares + deviation.square()
        variance = squares / _SPREAD_SAMPLES - (total / _SPREAD_SAMPLES).square()
        return variance.clamp_min(torch.finfo(dtype).tiny).sqrt()

    def correlate(self, noise: Tensor) -> Tensor:
        """Colour the noise as the prior does, (..., h, w)."""
        return self.prior.colour(noise) / self.prior.stddev

    def like(self, mean: Tensor, log_variance: Tensor) -> SaliencyPosterior:
        """Make another of the same prior's correlation."""
        return CorrelatedNormal(mean, log_variance, self.prior)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, (..., h, w) to (...), in nats."""
        scale = self.stddev / self.prior.stddev
        standard = (value - self.mean) / scale
        return self.prior.log_prob(self.prior.mean + standard) - scale.log().sum((-2, -1))

    def entropy(self) -> Tensor:
        """Differential entropy, (...), in nats."""
        size = self.event_shape.numel()
        log_scale = self.log_variance / 2 - self.prior.stddev.log()
        constant = size * (math.log(2 * math.pi) + 1) + self.prior.log_determinant
        return 0.5 * constant + log_scale.sum((-2, -1))


Family = Literal["mean_field", "correlated"]


def make_posterior(
    family: Family, mean: Tensor, log_variance: Tensor, prior: SaliencyPrior
) -> SaliencyPosterior:
    """Make the posterior of a family: ``mean_field`` (the paper) or ``correlated`` (ours)."""
    if family == "mean_field":
        return DiagonalNormal(mean, log_variance)
    return CorrelatedNormal(mean, log_variance, prior)
