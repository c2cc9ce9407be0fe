"""Base class of the prior p(s): what the KL divergence and the correlated posterior need."""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from saliency_vae.distributions.gaussian import MapGaussian
from saliency_vae.runtime.autograd import recording_gradients


class computed_once:  # noqa: N801 (a decorator, like property)
    """Cached property of a prior, shared with its copies that have another mean.

    A value cached in inference may be used in training later.
    """

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, prior: Any, owner: Any = None) -> Any:
        """Compute the value, or look it up."""
        if prior is None:
            return self
        name = self.compute.__name__
        if name not in prior._computed:
            with recording_gradients():
                prior._computed[name] = self.compute(prior)
        return prior._computed[name]


class SaliencyPrior(MapGaussian):
    """Gaussian prior N(m, Sigma) over maps (h, w) with correlated adjacent pixels.

    The mean m is 0, as in the paper, unless the prior is made by :meth:`around`.

    Args:
        height: Height h of the maps in pixels.
        width: Width w of the maps in pixels.
        device: Device of samples and parameters; the CPU by default.
        dtype: Type of samples and parameters.

    Raises:
        ValueError: If height or width is less than 1.
    """

    def __init__(
        self,
        height: int,
        width: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if height < 1 or width < 1:
            raise ValueError(f"Expected a map of at least 1x1 pixels. Found {height}x{width}.")
        self.height = height
        self.width = width
        self._computed: dict[str, Any] = {}  # shared with copies that have another mean
        self._mean: Tensor | None = None
        super().__init__(torch.Size(), torch.Size((height, width)), device, dtype)

    @property
    @abstractmethod
    def stddev(self) -> Tensor:
        """Marginal standard deviation of each pixel, (h, w)."""

    @property
    @abstractmethod
    def precision_diagonal(self) -> Tensor:
        """Diagonal of Sigma^-1, (h, w)."""

    @property
    @abstractmethod
    def log_determinant(self) -> Tensor:
        """Log |Sigma|, a scalar."""

    @abstractmethod
    def mahalanobis(self, saliency: Tensor) -> Tensor:
        """Quadratic form s' Sigma^-1 s of a deviation s from the mean, (..., h, w) to (...)."""

    @abstractmethod
    def scaled_trace(self, scale: Tensor) -> Tensor:
        """tr(Sigma^-1 D Sigma D) for D = diag(scale), (..., h, w) to (...)."""

    @abstractmethod
    def colour(self, noise: Tensor) -> Tensor:
        """Give white noise (..., h, w) the prior's covariance: apply L, where L L' = Sigma."""

    @property
    def mean(self) -> Tensor:
        """Mean m: zero, (h, w), or (..., h, w) as given to :meth:`around`."""
        if self._mean is None:
            return torch.zeros(self.event_shape, device=self.device, dtype=self.dtype)
        return self._mean

    def around(self, mean: Tensor) -> Self:
        """Copy this prior with another mean.

        Args:
            mean: Mean, (..., h, w); its leading dimensions are the batch shape.

        Raises:
            ValueError: If the last two dimensions of the mean are not (h, w).
        """
        if mean.shape[-2:] != self.event_shape:
            raise ValueError(
                f"Expected a mean of maps {tuple(self.event_shape)}. Found {tuple(mean.shape)}."
            )
        prior = copy.copy(self)
        prior._mean = mean
        prior._batch_shape = mean.shape[:-2]
        return prior

    @property
    def variance(self) -> Tensor:
        """Marginal variance of each pixel, (h, w)."""
        return self.stddev.square()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of maps, (..., h, w) to (...), in nats."""
        size = self.height * self.width
        constant = size * math.log(2 * math.pi) + self.log_determinant
        return -0.5 * (self.mahalanobis(value - self.mean) + constant)

    def reparameterise(self, noise: Tensor) -> Tensor:
        """Turn white noise (..., h, w) into samples, ``m + L eps``."""
        return self.mean + self.colour(noise)
