"""The paper's prior as a module, so that its correlation can be learned with the encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saliency_vae.distributions.kronecker import KroneckerNormal

_MOST = 1 - 1e-6  # float32 tanh can reach exactly 1, where there is no density


class ExponentialPrior(nn.Module):
    """Makes the exponential prior, ``kappa_ij = rho^|i-j|`` on each axis, for maps of any size.

    Args:
        correlation: Correlation rho of adjacent pixels, in (-1, 1): one number, or (vertical,
            horizontal).
        learn_correlation: Learn rho with the encoder, by the same loss, starting from this value.

    Raises:
        ValueError: If a correlation is out of range.

    Example:
        >>> make_prior = ExponentialPrior(0.5, learn_correlation=True)
        >>> (-make_prior(8, 8).log_prob(torch.ones(8, 8))).backward()  # a smooth map
        >>> make_prior.unbounded.grad < 0  # more correlation makes it more probable
        tensor([True])
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
