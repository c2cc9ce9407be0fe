"""The paper's prior: covariance K_h (x) K_w, never formed."""

from typing import Literal, get_args

import torch
from torch import Tensor

from saliency_vae.distributions.kernels import (
    ExponentialKernel,
    Kernel,
    matern32_kernel,
    rbf_kernel,
)
from saliency_vae.distributions.prior import SaliencyPrior, constant

KernelName = Literal["exponential", "rbf", "matern32"]


def _kernel(name: KernelName, n: int, correlation: float | Tensor) -> Kernel:
    if name not in get_args(KernelName):
        raise ValueError(f"Expected prior.kernel exponential, rbf or matern32. Found {name!r}.")
    if isinstance(correlation, Tensor):
        if name != "exponential":
            raise ValueError(f"Expected prior.correlation to be numbers for the {name} kernel.")
        return ExponentialKernel(n, correlation)
    if not -1 < correlation < 1:
        raise ValueError(f"Expected -1 < prior.correlation < 1. Found {correlation}.")
    if correlation == 0 or name == "exponential":
        return ExponentialKernel(n, correlation)
    if correlation < 0:
        raise ValueError(
            f"Expected 0 <= prior.correlation < 1 for the {name} kernel. Found {correlation}."
        )
    return rbf_kernel(n, correlation) if name == "rbf" else matern32_kernel(n, correlation)


class KroneckerNormal(SaliencyPrior):
    """Zero-mean Gaussian with covariance ``K_h (x) K_w`` (appendix B), unit marginal variance.

    With the exponential kernel everything but sampling is O(hw).

    Args:
        height: h.
        width: w.
        kernel: Correlation along an axis: ``exponential``, ``rbf`` or ``matern32``.
        correlation: Of two adjacent pixels, in (-1, 1) for the exponential kernel and [0, 1) for
            the others; one number, or (vertical, horizontal). 0 makes pixels independent. A tensor
            of 1 or 2 for the exponential kernel is taken as it is: gradients flow to it, and each
            backward pass needs a prior of its own.
        device: Of samples and parameters.
        dtype: Likewise.

    Raises:
        ValueError: If a correlation is out of range or the kernel unknown.
    """

    def __init__(
        self,
        height: int,
        width: int,
        kernel: KernelName = "exponential",
        correlation: float | tuple[float, float] | Tensor = 0.9,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(height, width, device, dtype)
        if isinstance(correlation, Tensor):
            vertical, horizontal = correlation.expand(2)
        elif isinstance(correlation, int | float):
            vertical = horizontal = correlation
        else:
            vertical, horizontal = correlation
        self.rows = _kernel(kernel, height, vertical)
        self.columns = _kernel(kernel, width, horizontal)

    @property
    def stddev(self) -> Tensor:
        """One, (h, w)."""
        return torch.ones(self.event_shape, device=self.device, dtype=self.dtype)

    @constant
    def precision_diagonal(self) -> Tensor:
        """Diagonal of K_h^-1 (x) K_w^-1, (h, w)."""
        diagonal = torch.outer(self.rows.precision_diagonal, self.columns.precision_diagonal)
        return diagonal.to(self.device, self.dtype)

    @constant
    def log_determinant(self) -> Tensor:
        """Sum of w log |K_h| + h log |K_w| (equation 4)."""
        rows, columns = self.rows.log_determinant, self.columns.log_determinant
        return (self.width * rows + self.height * columns).to(self.device, self.dtype)

    @constant
    def _cholesky(self) -> tuple[Tensor, Tensor]:
        rows, columns = self.rows.cholesky, self.columns.cholesky
        return rows.to(self.device, self.dtype), columns.to(self.device, self.dtype)

    def mahalanobis(self, saliency: Tensor) -> Tensor:
        """``||L_h^-1 S L_w^-T||^2`` (equation 3), (..., h, w) to (...)."""
        white = self.rows.whiten(self.columns.whiten(saliency).mT)
        return white.square().sum((-2, -1))

    def scaled_trace(self, scale: Tensor) -> Tensor:
        """``scale' (T_h (x) T_w) scale`` with ``T = K^-1 o K``, (..., h, w) to (...)."""
        spread = self.rows.hadamard(self.columns.hadamard(scale).mT).mT
        return (scale * spread).sum((-2, -1))

    def colour(self, noise: Tensor) -> Tensor:
        """``L_h E L_w'``, (..., h, w)."""
        rows, columns = self._cholesky
        coloured: Tensor = rows @ noise @ columns.mT
        return coloured
