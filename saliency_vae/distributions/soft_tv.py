"""A prior that penalises the true soft total variation (beyond the paper)."""

import math

import torch
from torch import Tensor

from saliency_vae.distributions.kernels import num_neighbours
from saliency_vae.distributions.prior import SaliencyPrior, computed_once


def _cosine_basis(n: int) -> Tensor:
    """Orthonormal DCT-II, (pixel, frequency): the eigenvectors of D'D for forward differences D."""
    pixel = torch.arange(n, dtype=torch.float64) + 0.5
    frequency = torch.arange(n, dtype=torch.float64)
    basis = torch.cos(math.pi / n * torch.outer(pixel, frequency)) * math.sqrt(2 / n)
    basis[:, 0] = 1 / math.sqrt(n)
    return basis


def _difference_eigenvalues(n: int) -> Tensor:
    """Eigenvalues of D'D for forward differences D, (n,)."""
    return 2 - 2 * torch.cos(math.pi / n * torch.arange(n, dtype=torch.float64))


class SoftTVNormal(SaliencyPrior):
    """Zero-mean Gaussian whose precision is ``a I + t (D_h'D_h (x) I + I (x) D_w'D_w)``.

    So ``-log p`` is ``a/2 ||s||^2 + t/2 (soft total variation)`` plus a constant. Differences of
    neighbours cost the same along both axes, whereas the Kronecker prior hardly penalises streaks
    along an axis. ``a`` and ``t`` are solved so that the mean marginal variance is 1 and the mean
    correlation of adjacent pixels is ``correlation``.

    Args:
        height: Height h of the maps in pixels.
        width: Width w of the maps in pixels.
        correlation: Mean correlation of two adjacent pixels, in [0, 1).
        device: Device of samples and parameters; the CPU by default.
        dtype: Type of samples and parameters.

    Raises:
        ValueError: If the correlation is out of range.

    Example:
        >>> prior = SoftTVNormal(16, 16, correlation=0.9)
        >>> prior.variance.mean()
        tensor(1.0000)
    """

    def __init__(
        self,
        height: int,
        width: int,
        correlation: float = 0.9,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(height, width, device, dtype)
        if not 0 <= correlation < 1:
            raise ValueError(
                f"Expected 0 <= prior.correlation < 1 for the soft-TV prior. Found {correlation}."
            )
        self._rows, self._columns = _cosine_basis(height), _cosine_basis(width)
        self._roughness = _difference_eigenvalues(height)[:, None] + _difference_eigenvalues(width)
        ratio = self._solve_ratio(correlation)
        # The variance scales inversely with the precision; this a makes its mean 1.
        self.a = float((1 / (1 + ratio * self._roughness)).mean())
        self.t = self.a * ratio
        self._eigenvalues = self.a + self.t * self._roughness

    def _solve_ratio(self, correlation: float) -> float:
        """Find the ratio t / a by bisection; the correlation rises with it from 0 to 1."""
        if correlation == 0 or self.height * self.width == 1:
            return 0.0
        low, high = -20.0, 40.0
        for _ in range(100):
            middle = (low + high) / 2
            variance, down, right = self._moments(1 / (1 + math.exp(middle) * self._roughness))
            pairs = torch.cat([rho.flatten() for rho in self._correlations(variance, down, right)])
            low, high = (middle, high) if pairs.mean() < correlation else (low, middle)
        return math.exp((low + high) / 2)

    def _moments(self, spectrum: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Marginal variances (h, w) and covariances with the pixel below and to the right."""
        rows, columns = self._rows, self._columns
        across = spectrum @ columns.square().mT
        variance = rows.square() @ across
        down = (rows[1:] * rows[:-1]) @ across
        right = rows.square() @ spectrum @ (columns[1:] * columns[:-1]).mT
        return variance, down, right

    @staticmethod
    def _correlations(variance: Tensor, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Correlation of each pixel with the one below, (h-1, w), and to the right, (h, w-1)."""
        stddev = variance.sqrt()
        return down / (stddev[1:] * stddev[:-1]), right / (stddev[:, 1:] * stddev[:, :-1])

    @computed_once
    def _covariances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Moments of this prior: variances, and covariances with the pixel below and right."""
        variance, down, right = self._moments(1 / self._eigenvalues)
        return self._cast(variance), self._cast(down), self._cast(right)

    @computed_once
    def _spectral_factors(self) -> tuple[Tensor, Tensor, Tensor]:
        amplitude = self._eigenvalues.rsqrt()
        return self._cast(self._rows), self._cast(self._columns), self._cast(amplitude)

    def _cast(self, parameter: Tensor) -> Tensor:
        return parameter.to(self.device, self.dtype)

    @computed_once
    def stddev(self) -> Tensor:
        """Marginal standard deviation, (h, w): about 1, larger at the borders."""
        variance: Tensor = self._covariances[0]
        return variance.sqrt()

    @computed_once
    def precision_diagonal(self) -> Tensor:
        """Diagonal of the precision, (h, w): a plus t times a pixel's number of neighbours."""
        neighbours = num_neighbours(self.height)[:, None] + num_neighbours(self.width)
        return self._cast(self.a + self.t * neighbours)

    @computed_once
    def log_determinant(self) -> Tensor:
        """Log |Sigma|: minus the sum of the logarithms of the precision's eigenvalues."""
        return self._cast(-self._eigenvalues.log().sum())

    def mahalanobis(self, saliency: Tensor) -> Tensor:
        """``a ||s||^2 + t (||D_h s||^2 + ||D_w s||^2)``, (..., h, w) to (...)."""
        variation = saliency.diff(dim=-2).square().sum((-2, -1))
        variation = variation + saliency.diff(dim=-1).square().sum((-2, -1))
        return self.a * saliency.square().sum((-2, -1)) + self.t * variation

    def scaled_trace(self, scale: Tensor) -> Tensor:
        """tr(Sigma^-1 D Sigma D), (..., h, w) to (...); Sigma^-1 couples only neighbours."""
        variance, down, right = self._covariances
        trace = (self.precision_diagonal * variance * scale.square()).sum((-2, -1))
        coupled = (down * scale[..., 1:, :] * scale[..., :-1, :]).sum((-2, -1))
        coupled = coupled + (right * scale[..., 1:] * scale[..., :-1]).sum((-2, -1))
        scaled: Tensor = trace - 2 * self.t * coupled
        return scaled

    def colour(self, noise: Tensor) -> Tensor:
        """Give white noise (..., h, w) the prior's covariance, in the cosine basis."""
        rows, columns, amplitude = self._spectral_factors
        coloured: Tensor = rows @ (amplitude * noise) @ columns.mT
        return coloured
