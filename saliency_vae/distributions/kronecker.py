"""The paper's prior: its covariance kappa_h (x) kappa_w is never formed as a matrix."""

from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor

from saliency_vae.distributions.kernels import (
    ExponentialKernel,
    Kernel,
    matern32_kernel,
    rbf_kernel,
)
from saliency_vae.distributions.prior import SaliencyPrior, computed_once
from saliency_vae.runtime.autograd import recording_gradients

KernelName = Literal["exponential", "rbf", "matern32"]


def _make_kernel(name: KernelName, n: int, correlation: float | Tensor) -> Kernel:
    if name not in get_args(KernelName):
        raise ValueError(f"Expected prior.kernel exponential, rbf or matern32. Found {name!r}.")
    if isinstance(correlation, Tensor):
        if name != "exponential":
            raise ValueError(
                f"Expected prior.correlation to be numbers for the {name} kernel. Found a tensor."
            )
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
    """Zero-mean Gaussian with covariance ``kappa_h (x) kappa_w`` (appendix B), variance 1.

    With the exponential kernel everything but sampling is O(hw).

    Args:
        height: Height h of the maps in pixels.
        width: Width w of the maps in pixels.
        kernel: Correlation along an axis: ``exponential``, ``rbf`` or ``matern32``.
        correlation: Correlation rho of two adjacent pixels: one number, or (vertical, horizontal);
            in (-1, 1) for the exponential kernel and in [0, 1) for the other two. 0 makes pixels
            independent. A tensor of 1 or 2 elements (exponential kernel only) receives gradients
            and is not range-checked; each backward pass then needs a new prior.
        device: Device of samples and parameters; the CPU by default.
        dtype: Type of samples and parameters.

    Raises:
        ValueError: If a correlation is out of range or the kernel is unknown.

    Example:
        >>> prior = KroneckerNormal(2, 3, correlation=0.5)
        >>> prior.precision_diagonal
        tensor([[1.7778, 2.2222, 1.7778],
                [1.7778, 2.2222, 1.7778]])
        >>> prior.rsample((5,)).shape
        torch.Size([5, 2, 3])
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
        elif isinstance(correlation, int | float | Real):  # NumPy's too
            vertical = horizontal = float(correlation)
        else:
            vertical, horizontal = correlation
        with recording_gradients():  # a prior made for inference may be used in training later
            self.rows = _make_kernel(kernel, height, vertical)
            self.columns = _make_kernel(kernel, width, horizontal)

    @property
    def stddev(self) -> Tensor:
        """Marginal standard deviation of each pixel, which is 1, (h, w)."""
        return torch.ones(self.event_shape, device=self.device, dtype=self.dtype)

    @computed_once
    def precision_diagonal(self) -> Tensor:
        """Diagonal of kappa_h^-1 (x) kappa_w^-1, (h, w), for the trace term (equation 2)."""
        diagonal = torch.outer(self.rows.precision_diagonal, self.columns.precision_diagonal)
        return diagonal.to(self.device, self.dtype)

    @computed_once
    def log_determinant(self) -> Tensor:
        """``w log |kappa_h| + h log |kappa_w|`` (equation 4)."""
        rows, columns = self.rows.log_determinant, self.columns.log_determinant
        return (self.width * rows + self.height * columns).to(self.device, self.dtype)

    @computed_once
    def _cholesky(self) -> tuple[Tensor, Tensor]:
        rows, columns = self.rows.cholesky, self.columns.cholesky
        return rows.to(self.device, self.dtype), columns.to(self.device, self.dtype)

    def mahalanobis(self, saliency: Tensor) -> Tensor:
        """Quadratic term (equation 3) as ``||L_h^-1 S L_w^-T||^2``, (..., h, w) to (...)."""
        white = self.rows.whiten(self.columns.whiten(saliency).mT)
        return white.square().sum((-2, -1))

    def scaled_trace(self, scale: Tensor) -> Tensor:
        """``scale' (T_h (x) T_w) scale`` with ``T = kappa^-1 o kappa``, (..., h, w) to (...)."""
        spread = self.rows.hadamard(self.columns.hadamard(scale).mT).mT
        return (scale * spread).sum((-2, -1))

    def colour(self, noise: Tensor) -> Tensor:
        """``L_h E L_w'`` of white noise E, (..., h, w), with the Cholesky factors of kappa."""
        rows, columns = self._cholesky
        coloured: Tensor = rows @ noise @ columns.mT
        return coloured
