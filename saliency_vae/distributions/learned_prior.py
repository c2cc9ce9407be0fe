"""The paper's prior with a correlation that may be learned."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saliency_vae.distributions import KroneckerNormal

_MOST = 1 - 1e-6  # in float32 tanh reaches 1 itself, where there is no density


class ExponentialPrior(nn.Module):
    """Makes the exponential prior over maps of any size: ``kappa_ij = rho^|i-j|`` on each axis.

    Args:
        correlation: rho of adjacent pixels, in (-1, 1): one, or (vertical, horizontal).
        learn_correlation: Learn rho, from this one on, with the encoder and by the same loss.

    Raises:
        ValueError: If a correlation is out of range.
    """

    def __init__(
        self, correlation: float | tuple[float, float] = 0.9, learn_correlation: bool = False
    ) -> None:
        super().__init__()
        given = list(correlation) if isinstance(correlation, Sequence) else [correlation]
        for rho in given:
            if not -1 < rho < 1:
                raise ValueError(f"Expected -1 < prior.correlation < 1. Found {rho}.")
        self.given = correlation
        # rho = tanh(parameter) stays in (-1, 1) wherever the optimizer goes.
        unbounded = torch.tensor(given, dtype=torch.float64).atanh().float()
        self.unbounded = nn.Parameter(unbounded) if learn_correlation else None

    def forward(
        self, height: int, width: int, device: torch.device | str | None = None
    ) -> KroneckerNormal:
        """Make the prior over maps (height, width)."""
        rho = self.given if self.unbounded is None else _correlation(self.unbounded)
        return KroneckerNormal(height, width, correlation=rho, device=device)

    @property
    def learned(self) -> Tensor | None:
        """Correlation as learned so far, (1,) or (vertical, horizontal); None if it is fixed."""
        return None if self.unbounded is None else _correlation(self.unbounded.detach())


def _correlation(unbounded: Tensor) -> Tensor:
    return unbounded.tanh().clamp(-_MOST, _MOST)
