"""What the KL divergence and the correlated posterior need to know of a prior."""

import math
from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size


class constant(cached_property[Any]):  # noqa: N801 (a decorator, like property)
    """Cached property of a distribution, usable in training whoever asks for it first.

    What is computed under ``torch.inference_mode`` could not be saved for a backward pass later.
    """

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        with torch.inference_mode(False):
            return super().__get__(instance, owner)


class SaliencyPrior(Distribution):
    """Zero-mean Gaussian N(0, Sigma) over maps (h, w) whose adjacent pixels correlate.

    Args:
        height: h.
        width: w.
        device: Of samples and of what the KL divergence uses.
        dtype: Likewise.
    """

    support = constraints.independent(constraints.real, 2)  # type: ignore[no-untyped-call]  # torch's
    arg_constraints = {}  # noqa: RUF012 (the name and form that Distribution asks for)
    has_rsample = True

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
        self.device = torch.device(device or "cpu")
        self.dtype = dtype
        super().__init__(event_shape=torch.Size((height, width)), validate_args=False)

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
        """Quadratic form s' Sigma^-1 s, (..., h, w) to (...)."""

    @abstractmethod
    def scaled_trace(self, scale: Tensor) -> Tensor:
        """tr(Sigma^-1 D Sigma D) for D = diag(scale), (..., h, w) to (...)."""

    @abstractmethod
    def colour(self, noise: Tensor) -> Tensor:
        """Turn white noise into a sample: a linear map L with L L' = Sigma, (..., h, w)."""

    @property
    def mean(self) -> Tensor:
        """Zero, (h, w)."""
        return torch.zeros(self.event_shape, device=self.device, dtype=self.dtype)

    @property
    def variance(self) -> Tensor:
        """Marginal variance of each pixel, (h, w)."""
        return self.stddev.square()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, (..., h, w) to (...), in nats."""
        size = self.height * self.width
        constant = size * math.log(2 * math.pi) + self.log_determinant
        return -0.5 * (self.mahalanobis(value) + constant)

    def rsample(
        self, sample_shape: _size = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw maps, sample_shape + (h, w).

        Args:
            sample_shape: Number of samples.
            generator: Random numbers to use, of the same device; torch's own by default.
        """
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        return self.colour(noise)
