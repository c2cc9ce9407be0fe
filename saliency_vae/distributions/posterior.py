"""The approximate posterior q(s|x): a Gaussian over the saliency map of each image."""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from saliency_vae.distributions.gaussian import MapGaussian
from saliency_vae.distributions.prior import SaliencyPrior
from saliency_vae.topk import num_kept, threshold, top_pixels

Family = Literal["mean_field", "correlated"]

INCLUSION_FRACTION = 0.1  # kept fraction where results are reported for only one
_SPREAD_SAMPLES = 256  # standard error: 4 % of the spread, .01 of a probability
_SAMPLES_AT_ONCE = 16  # on an accelerator, where drawing one at a time is slow


class SaliencyPosterior(MapGaussian):
    """Gaussian q(s|x) over the saliency maps of a batch of images.

    Args:
        mean: Mean mu, (..., h, w).
        log_variance: Log-variance eta = log nu of each pixel, (..., h, w).

    Attributes:
        estimate_confidence: Function that computes :attr:`confidence`; set by the explainer.
        find_out_of_depth: Function that computes :attr:`out_of_depth`; set by the explainer.
        signal_spread: Standard deviation of the classifier's smoothed gradient over noisy copies of
            the image, (..., h, w), >= 0: where the signals disagree. Unlike :attr:`stddev`, it does
            not say how much the map could change there without changing the prediction. Set by the
            explainer; None without such signals.

    Raises:
        ValueError: If the two shapes differ or have fewer than two dimensions.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        if mean.shape != log_variance.shape or mean.ndim < 2:
            raise ValueError(
                "Expected mean and log_variance of one shape (..., h, w). "
                f"Found {tuple(mean.shape)} and {tuple(log_variance.shape)}."
            )
        self._mean = mean
        self.log_variance = log_variance
        self.estimate_confidence: Callable[[SaliencyPosterior], Tensor] | None = None
        self.find_out_of_depth: Callable[[], Tensor] | None = None
        self.signal_spread: Tensor | None = None
        super().__init__(mean.shape[:-2], mean.shape[-2:], mean.device, mean.dtype)

    def __repr__(self) -> str:
        """Show shapes, and the ranges of mean and standard deviation."""
        height, width = self.event_shape
        ranges = "".join(
            f", {name} {low:.3g} to {high:.3g}"
            for name, values in (("mean", self.mean), ("stddev", self.stddev))
            if values.numel()
            for low, high in [torch.stack(values.detach().aminmax()).tolist()]
        )
        batch = tuple(self.batch_shape)
        return f"{type(self).__name__}(batch shape {batch}, maps {height} x {width}{ranges})"

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
        """Posterior standard deviation sigma of each pixel, (..., h, w)."""
        return (self.log_variance / 2).exp()

    def reparameterise(self, noise: Tensor) -> Tensor:
        """Turn white noise eps, broadcastable to (..., h, w), into maps, ``mu + sigma * eps``.

        The noise is correlated first, see :meth:`correlate`.
        """
        return self.mean + self.stddev * self.correlate(noise)

    @abstractmethod
    def correlate(self, noise: Tensor) -> Tensor:
        """Give white noise (..., h, w) the correlation of the maps; its variance stays 1."""

    @abstractmethod
    def like(self, mean: Tensor, log_variance: Tensor) -> "SaliencyPosterior":
        """Make a posterior of the same family and correlation with another mean and variance."""

    def split(self) -> list["SaliencyPosterior"]:
        """Split the posterior of a batch (B,) into one posterior for each image."""
        parts = [self.like(*one) for one in zip(self.mean, self.log_variance, strict=True)]
        for index, part in enumerate(parts):
            if self.signal_spread is not None:
                part.signal_spread = self.signal_spread[index]
            if self.estimate_confidence is not None:
                part.estimate_confidence = lambda _, index=index: self.confidence[index]
            if self.find_out_of_depth is not None:
                part.find_out_of_depth = lambda index=index: self.out_of_depth[index]
        return parts

    @cached_property
    def confidence(self) -> Tensor:
        """Probability that the top 5 % of pixels keep the classifier's decision, (...), in [0, 1].

        The explainer's confidence network estimates it. Without one it is measured by a pass of the
        classifier: the probability of the target when only these pixels are kept, over a blur.

        Raises:
            ValueError: If the explainer has neither a confidence network nor a classifier.
        """
        if self.estimate_confidence is None:
            raise ValueError(
                "Expected the posterior of an explainer with a confidence network, or with its "
                "classifier. Found another."
            )
        return self.estimate_confidence(self)

    @cached_property
    def out_of_depth(self) -> Tensor:
        """Whether the images are unlike the training images (out of distribution), (...) bool.

        If so, the estimated :attr:`confidence` is a guess. One in twenty of the validation images
        counts as out of depth.

        Raises:
            ValueError: If there is no confidence network, or its detector is not fitted.
        """
        if self.find_out_of_depth is None:
            raise ValueError(
                "Expected the posterior of an explainer with a confidence network. Found another."
            )
        return self.find_out_of_depth()

    def map_agreement(self, fraction: float) -> Tensor:
        """How well sampled maps agree with the mean on the top ``fraction`` of pixels.

        Args:
            fraction: Share of the pixels, in (0, 1].

        Returns:
            Expected share of the mean's top pixels that are top pixels of a sampled map too, (...):
            1 if every sample marks the same pixels, ``fraction`` if samples and mean are unrelated.
        """
        probability, mask = self.inclusion_probability(fraction), self.topk_mask(fraction)
        return (probability * mask).sum((-2, -1)) / mask.sum((-2, -1))

    def topk_mask(self, fraction: float) -> Tensor:
        """Mark the given fraction of pixels with the highest mean.

        Args:
            fraction: Share of the pixels, in (0, 1].

        Returns:
            Boolean mask, (..., h, w).
        """
        return top_pixels(self.mean, fraction)

    def inclusion_probability(self, fraction: float) -> Tensor:
        """Probability that a pixel is among the top ``fraction`` of a sampled map.

        Computed as ``Phi((mu - t) / tau)``. tau is the standard deviation, over samples, of a pixel
        minus its map's top-k threshold; t makes the probabilities sum to k.

        Args:
            fraction: Share of the pixels, in (0, 1].

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
        """Standard deviation, over samples, of a pixel minus its map's threshold, (..., h, w)."""


class DiagonalNormal(SaliencyPosterior):
    """The paper's posterior N(mu, diag(nu)): pixels are independent given the image.

    Args:
        mean: Mean mu, (..., h, w).
        log_variance: Log-variance eta = log nu of each pixel, (..., h, w).

    Example:
        >>> mean = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> posterior = DiagonalNormal(mean, log_variance=torch.zeros(2, 2))
        >>> posterior
        DiagonalNormal(batch shape (), maps 2 x 2, mean 0 to 2, stddev 1 to 1)
        >>> posterior.rsample((5,)).shape
        torch.Size([5, 2, 2])
        >>> posterior.inclusion_probability(fraction=0.25).round(decimals=2)
        tensor([[0.7400, 0.0900],
                [0.0900, 0.0900]])
    """

    def _spread(self, fraction: float) -> Tensor:
        """Posterior standard deviation, as the threshold over thousands of pixels hardly varies."""
        return self.stddev.clamp_min(torch.finfo(self.dtype).tiny ** 0.5)

    def correlate(self, noise: Tensor) -> Tensor:
        """Leave the noise white: a sample is ``mu + exp(eta/2) * eps``."""
        return noise

    def like(self, mean: Tensor, log_variance: Tensor) -> SaliencyPosterior:
        """Make a posterior of independent pixels with another mean and variance."""
        return DiagonalNormal(mean, log_variance)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of maps, (..., h, w) to (...), in nats."""
        z = (value - self.mean) / self.stddev
        return -0.5 * (z.square() + self.log_variance + math.log(2 * math.pi)).sum((-2, -1))

    def entropy(self) -> Tensor:
        """Differential entropy, (...), in nats."""
        return 0.5 * (self.log_variance + math.log(2 * math.pi) + 1).sum((-2, -1))


class CorrelatedNormal(SaliencyPosterior):
    """Posterior N(mu, D C D), D = diag(sigma), with the prior's correlation C (beyond the paper).

    Its samples are as smooth as the prior's, and it can equal the prior, so its KL has no floor.

    Args:
        mean: Mean mu, (..., h, w).
        log_variance: Log-variance of each pixel, (..., h, w).
        prior: Prior that gives the correlation.

    Raises:
        ValueError: If the shapes disagree.

    Example:
        >>> from saliency_vae.distributions import KroneckerNormal
        >>> prior = KroneckerNormal(4, 4, correlation=0.9)
        >>> posterior = CorrelatedNormal(torch.zeros(4, 4), torch.zeros(4, 4), prior)
        >>> torch.distributions.kl_divergence(posterior, prior).abs() < 1e-5
        tensor(True)
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
        """Standard deviation, over samples, of a pixel minus its map's threshold, (..., h, w).

        It is estimated from samples, because noise common to all pixels moves the threshold too and
        keeps their order. Every call and every image uses the same noise.
        """
        device, dtype = self.mean.device, self.mean.dtype
        generator = torch.Generator(device).manual_seed(0)
        k = num_kept(fraction, self.event_shape.numel())
        # Relative to the mean's own threshold, to avoid cancellation in the variance.
        centred = self.mean - _kth_largest(self.mean, k)
        total = squares = torch.zeros_like(self.mean)
        number = 1 if device.type == "cpu" else _SAMPLES_AT_ONCE
        shape = (number, *[1] * len(self.batch_shape), *self.event_shape)
        for _ in range(_SPREAD_SAMPLES // number):
            noise = torch.randn(shape, generator=generator, device=device, dtype=dtype)
            moved = self.stddev * self.correlate(noise)
            deviation = moved - _kth_largest(centred + moved, k)
            total, squares = total + deviation.sum(0), squares + deviation.square().sum(0)
        variance = squares / _SPREAD_SAMPLES - (total / _SPREAD_SAMPLES).square()
        return variance.clamp_min(torch.finfo(dtype).tiny).sqrt()

    def correlate(self, noise: Tensor) -> Tensor:
        """Give white noise (..., h, w) the prior's correlation; its variance stays 1."""
        return self.prior.colour(noise) / self.prior.stddev

    def like(self, mean: Tensor, log_variance: Tensor) -> SaliencyPosterior:
        """Make a posterior of the same correlation with another mean and variance."""
        return CorrelatedNormal(mean, log_variance, self.prior)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of maps, (..., h, w) to (...), in nats."""
        scale = self.stddev / self.prior.stddev
        standard = (value - self.mean) / scale
        size = self.event_shape.numel()
        constant = size * math.log(2 * math.pi) + self.prior.log_determinant
        log_scale = scale.log().sum((-2, -1))
        return -0.5 * (self.prior.mahalanobis(standard) + constant) - log_scale

    def entropy(self) -> Tensor:
        """Differential entropy, (...), in nats."""
        size = self.event_shape.numel()
        log_scale = self.log_variance / 2 - self.prior.stddev.log()
        constant = size * (math.log(2 * math.pi) + 1) + self.prior.log_determinant
        return 0.5 * constant + log_scale.sum((-2, -1))


def _kth_largest(maps: Tensor, k: int) -> Tensor:
    """Value of the k-th largest pixel of maps (..., h, w): (..., 1, 1)."""
    return maps.flatten(-2).topk(k, sorted=False).values.amin(-1)[..., None, None]


def make_posterior(
    family: Family, mean: Tensor, log_variance: Tensor, prior: SaliencyPrior
) -> SaliencyPosterior:
    """Make a posterior of the given family.

    Args:
        family: ``mean_field`` for :class:`DiagonalNormal`, the paper's, or ``correlated`` for
            :class:`CorrelatedNormal`.
        mean: Mean mu, (..., h, w).
        log_variance: Log-variance eta of each pixel, (..., h, w).
        prior: Prior that gives the correlation of the correlated family.

    Raises:
        ValueError: If the family is neither.

    Example:
        >>> from saliency_vae.distributions import KroneckerNormal
        >>> prior = KroneckerNormal(8, 8, correlation=0.9)
        >>> make_posterior("correlated", torch.zeros(8, 8), torch.zeros(8, 8), prior).variance[0, 0]
        tensor(1.)
    """
    if family == "mean_field":
        return DiagonalNormal(mean, log_variance)
    if family == "correlated":
        return CorrelatedNormal(mean, log_variance, prior)
    raise ValueError(f"Expected posterior mean_field or correlated. Found {family!r}.")
