"""Base class of priors and posteriors: a Gaussian over maps, sampled from white noise."""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size


class MapGaussian(Distribution):
    """Gaussian distribution over maps, event shape (h, w).

    Args:
        batch_shape: Shape (...) of the batch of distributions.
        event_shape: Shape (h, w) of a map.
        device: Device of the samples; the CPU by default.
        dtype: Type of the samples.
    """

    support = constraints.independent(constraints.real, 2)  # type: ignore[no-untyped-call]  # torch's
    arg_constraints = {}  # noqa: RUF012 (name and form required by Distribution)
    has_rsample = True

    def __init__(
        self,
        batch_shape: torch.Size,
        event_shape: torch.Size,
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> None:
        self.device = torch.device(device or "cpu")
        self.dtype = dtype
        super().__init__(batch_shape, event_shape, validate_args=False)

    @abstractmethod
    def reparameterise(self, noise: Tensor) -> Tensor:
        """Turn white noise, broadcastable to (..., h, w), into samples."""

    def rsample(
        self, sample_shape: _size = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw maps, sample_shape + (..., h, w); gradients flow to the parameters.

        Args:
            sample_shape: Shape of the batch of samples.
            generator: Random generator on the same device; torch's global one by default.
        """
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        return self.reparameterise(noise)
