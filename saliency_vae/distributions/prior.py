"""What the KL divergence and the correlated posterior need to know of a prior."""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size


class constant:  # noqa: N801 (a decorator, like property)
    """Property of a prior that is computed once, for it and for the same prior about other means.

    It is usable in training whoever asks for it first: what is computed under
    ``torch.inference_mode`` could not be saved for a backward pass later.
    """

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, prior: Any, owner: Any = None) -> Any:
        """Compute the value, or look it up."""
        if prior is None:
            return self
        name = self.compute.__name__
        if name not in prior._constants:
            with torch.inference_mode(False):
                prior._constants[name] = self.compute(prior)
        return prior._constants[name]


class SaliencyPrior(Distribution):
    """Gaussian N(m, Sigma) over maps (h, w) whose adjacent pixels correlate; m = 0 in the paper.

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
        self._constants: dict[str, Any] = {}  # shared by the same prior about other means
        self._mean: Tensor | None = None
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
        """Quadratic form s' Sigma^-1 s of a deviation s from the mean, (..., h, w) to (...)."""

    @abstractmethod
    def scaled_trace(self, scale: Tensor) -> Tensor:
        """tr(Sigma^-1 D Sigma D) for D = diag(scale), (..., h, w) to (...)."""

    @abstractmethod
    def colour(self, noise: Tensor) -> Tensor:
        """Turn white noise into a sample: a linear map L with L L' = Sigma, (..., h, w)."""

    @property
    def mean(self) -> Tensor:
        """Mean m, (..., h, w): zero, (h, w), unless made by :meth:`around`."""
        if self._mean is None:
            return torch.zeros(self.event_shape, device=self.device, dtype=self.dtype)
        return self._mean

    def around(self, mean: Tensor) -> Self:
        """Make the same prior about another mean, (..., h, w), batch shape (...).

        Raises:
            ValueError: If the mean is not of maps (h, w).
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
        """Log density, (..., h, w) to (...), in nats."""
        size = self.height * self.width
        constant = size * math.log(2 * math.pi) + self.log_determinant
        return -0.5 * (self.mahalanobis(value - self.mean) + constant)

    def rsample(
        self, sample_shape: _size = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw maps, sample_shape + (..., h, w).

        Args:
            sample_shape: Number of samples.
            generator: Random numbers to use, of the same device; torch's own by default.
        """
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        return self.mean + self.colour(noise)
