"""Correlation of the pixels along one axis: the factors kappa of the Kronecker prior.

For every kernel, ``correlation`` is that of two *adjacent* pixels, so one sweep covers all kernels.
K is the correlation matrix kappa, whose diagonal is 1, and L its Cholesky factor, K = L L'.
"""

import math
import warnings
from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from saliency_vae.runtime.autograd import recording_gradients


def num_neighbours(n: int) -> Tensor:
    """Number of neighbours of each of n pixels in a row, (n,), float64."""
    neighbours = torch.full((n,), 2.0, dtype=torch.float64)
    neighbours[0] -= 1
    neighbours[-1] -= 1
    return neighbours


class Kernel(ABC):
    """Correlation matrix K of n pixels in a row.

    Args:
        n: Number of pixels.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    @abstractmethod
    def whiten(self, x: Tensor) -> Tensor:
        """Apply L^-1 along the last axis."""

    @abstractmethod
    def hadamard(self, x: Tensor) -> Tensor:
        """Apply T = K^-1 o K (o is the entrywise product) along the last axis."""

    @property
    @abstractmethod
    def cholesky(self) -> Tensor:
        """Cholesky factor L, (n, n).

        This and the properties below are float64 unless the correlation was given as a tensor.
        """

    @property
    @abstractmethod
    def precision_diagonal(self) -> Tensor:
        """Diagonal of K^-1, (n,)."""

    @property
    @abstractmethod
    def log_determinant(self) -> Tensor:
        """Log |K|, a scalar."""


class ExponentialKernel(Kernel):
    """Exponential kernel ``K_ij = rho^|i-j|``, a stationary AR(1) process; K^-1 is tridiagonal.

    Everything but the Cholesky factor takes O(n) time, without forming K.

    Args:
        n: Number of pixels.
        correlation: rho in (-1, 1): a number, or a scalar tensor that receives gradients.
    """

    def __init__(self, n: int, correlation: float | Tensor) -> None:
        super().__init__(n)
        self.rho = (
            correlation
            if isinstance(correlation, Tensor)
            else torch.tensor(correlation, dtype=torch.float64)
        )
        self.innovation = 1 - self.rho**2  # variance of an AR(1) innovation

    def whiten(self, x: Tensor) -> Tensor:
        """Normalised innovations: ``z_1 = x_1``, ``z_i = (x_i - rho x_{i-1}) / sqrt(1-rho^2)``."""
        innovations = (x[..., 1:] - self.rho * x[..., :-1]) / self.innovation.sqrt()
        return torch.cat((x[..., :1], innovations), dim=-1)

    def hadamard(self, x: Tensor) -> Tensor:
        """Apply the tridiagonal T: the diagonal of K^-1, with -rho^2 / (1-rho^2) beside it."""
        diagonal = self.precision_diagonal.to(x, non_blocking=True)
        neighbours = torch.zeros_like(x)
        neighbours[..., 1:] += x[..., :-1]
        neighbours[..., :-1] += x[..., 1:]
        return diagonal * x - self.rho**2 / self.innovation * neighbours

    @cached_property
    def cholesky(self) -> Tensor:
        """Cholesky factor L; column j is the effect ``rho^(i-j)`` of innovation j, times stddev."""
        pixel = torch.arange(self.n, device=self.rho.device)
        lag = pixel[:, None] - pixel
        factor = torch.tril(self.rho ** lag.clamp_min(0))
        return torch.cat((factor[:, :1], factor[:, 1:] * self.innovation.sqrt()), dim=1)

    @cached_property
    def precision_diagonal(self) -> Tensor:
        """Diagonal of K^-1: 1/(1-rho^2) at both ends, (1+rho^2)/(1-rho^2) between them."""
        with recording_gradients():  # a value cached in inference may be used in training
            extra = num_neighbours(self.n).to(self.rho) - 1
            return (1 + extra * self.rho**2) / self.innovation

    @property
    def log_determinant(self) -> Tensor:
        """Log |K| = (n-1) log(1-rho^2)."""
        return (self.n - 1) * self.innovation.log()


class DenseKernel(Kernel):
    """Kernel of any stationary correlation; its matrix is factorised once in float64.

    If the matrix is singular in float64, its diagonal is increased, with a warning.

    Args:
        correlation_at: Correlation at lag 0, 1, ..., n-1, (n,), float64.
    """

    _MAX_CONDITION = 1e12  # beyond this, float64 leaves fewer than four digits of the inverse

    def __init__(self, correlation_at: Tensor) -> None:
        n = len(correlation_at)
        super().__init__(n)
        lag = (torch.arange(n)[:, None] - torch.arange(n)).abs()
        matrix = correlation_at[lag]
        eigenvalues = torch.linalg.eigvalsh(matrix)
        floor = float(eigenvalues[-1]) / self._MAX_CONDITION
        jitter = max(0.0, floor - float(eigenvalues[0]))
        if jitter > 0:
            warnings.warn(
                f"The prior's correlation matrix over {n} pixels is singular in float64: "
                f"{jitter:.1e} is added to its diagonal, and defines the prior. "
                "A lower correlation or the exponential kernel avoids this.",
                stacklevel=2,
            )
            matrix = (matrix + jitter * torch.eye(n, dtype=matrix.dtype)) / (1 + jitter)
        self.matrix = matrix
        self._cholesky: Tensor = torch.linalg.cholesky(matrix)
        self._inverse = torch.cholesky_inverse(self._cholesky)
        self._whitener = torch.linalg.solve_triangular(
            self._cholesky, torch.eye(n, dtype=matrix.dtype), upper=False
        )

    def whiten(self, x: Tensor) -> Tensor:
        """Apply L^-1 along the last axis."""
        whitener: Tensor = self._whitener.mT.to(x)
        return x @ whitener

    def hadamard(self, x: Tensor) -> Tensor:
        """Apply K^-1 o K along the last axis."""
        spread: Tensor = x @ (self._inverse * self.matrix).to(x)
        return spread

    @property
    def cholesky(self) -> Tensor:
        """Cholesky factor L, (n, n), float64."""
        return self._cholesky

    @property
    def precision_diagonal(self) -> Tensor:
        """Diagonal of K^-1, (n,), float64."""
        diagonal: Tensor = self._inverse.diagonal()
        return diagonal

    @cached_property
    def log_determinant(self) -> Tensor:
        """Log |K|."""
        return 2 * self._cholesky.diagonal().log().sum()


def rbf_kernel(n: int, correlation: float) -> DenseKernel:
    """Squared exponential (RBF) kernel ``K_ij = rho^((i-j)^2)``, with the smoothest samples."""
    lag = torch.arange(n, dtype=torch.float64)
    return DenseKernel(correlation ** lag.square())


def matern32_kernel(n: int, correlation: float) -> DenseKernel:
    """Matern 3/2 kernel ``(1 + a lag) exp(-a lag)``; a is found from the adjacent correlation."""
    low, high = 0.0, 100.0
    for _ in range(100):
        a = (low + high) / 2
        low, high = (a, high) if (1 + a) * math.exp(-a) > correlation else (low, a)
    lag = torch.arange(n, dtype=torch.float64)
    return DenseKernel((1 + a * lag) * torch.exp(-a * lag))
