"""Slow textbook versions that the package's fast ones are held against, in float64."""

import math

import torch
from torch import Tensor


def correlation_matrix(kernel: str, n: int, rho: float) -> Tensor:
    """Correlation of n pixels in a row, entry by entry; adjacent pixels correlate by rho."""
    decay = _matern32_decay(rho) if kernel == "matern32" and rho > 0 else math.inf
    matrix = torch.empty(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            lag = abs(i - j)
            if lag == 0:
                matrix[i, j] = 1
            elif kernel == "exponential":
                matrix[i, j] = rho**lag
            elif kernel == "rbf":
                matrix[i, j] = rho ** (lag**2)
            else:
                matrix[i, j] = (1 + decay * lag) * math.exp(-decay * lag) if rho else 0
    return matrix


def _matern32_decay(rho: float) -> float:
    """Root of log(1 + a) - a = log(rho) by Newton's method, monotone from the right."""
    a = 100.0
    for _ in range(100):
        a += (math.log1p(a) - a - math.log(rho)) * (1 + a) / a
    return a


def kronecker_covariance(
    kernel: str, height: int, width: int, correlation: tuple[float, float]
) -> Tensor:
    """Covariance (hw, hw) of pixels in row-major order."""
    rows = correlation_matrix(kernel, height, correlation[0])
    columns = correlation_matrix(kernel, width, correlation[1])
    return torch.kron(rows, columns)


def soft_tv_precision(height: int, width: int, a: float, t: float) -> Tensor:
    """``a I + t sum (e_p - e_q)(e_p - e_q)'`` over adjacent pixels p, q, (hw, hw)."""
    precision = a * torch.eye(height * width, dtype=torch.float64)
    for p, q in adjacent_pixels(height, width):
        precision[p, p] += t
        precision[q, q] += t
        precision[p, q] -= t
        precision[q, p] -= t
    return precision


def soft_tv_covariance(height: int, width: int, a: float, t: float) -> Tensor:
    """Dense inverse of the precision, symmetric to the last bit."""
    covariance: Tensor = torch.linalg.inv(soft_tv_precision(height, width, a, t))
    return (covariance + covariance.mT) / 2


def adjacent_pixels(height: int, width: int) -> list[tuple[int, int]]:
    """Row-major indices of every pair of vertical or horizontal neighbours."""
    pixels = [(i, j) for i in range(height) for j in range(width)]
    down = [(i * width + j, (i + 1) * width + j) for i, j in pixels if i + 1 < height]
    right = [(i * width + j, i * width + j + 1) for i, j in pixels if j + 1 < width]
    return down + right


def sinkhorn_topk(scores: Tensor, k: float, temperature: float) -> Tensor:
    """SOFT top-k of scores (n,): entropic transport to {0, 1}, log-domain Sinkhorn, converged.

    The cost is (s - y)^2 / 2 to y in {0, 1}, the marginals are 1 and (n - k, k).
    """
    targets = torch.tensor([0.0, 1.0], dtype=scores.dtype)
    log_kernel = -(scores[:, None] - targets).square() / 2 / temperature
    log_columns = torch.tensor([len(scores) - k, k], dtype=scores.dtype).log()
    v = torch.zeros(2, dtype=scores.dtype)
    for _ in range(100_000):
        u = -torch.logsumexp(log_kernel + v, dim=1)
        previous, v = v, log_columns - torch.logsumexp(log_kernel + u[:, None], dim=0)
        if float((v - previous).detach().abs().max()) < 1e-13:
            break
    else:
        raise RuntimeError("Sinkhorn did not converge.")
    return (log_kernel + u[:, None] + v)[:, 1].exp()


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur of one channel (H, W), weights renormalised at the borders."""
    return _blur_columns(_blur_columns(image.double(), sigma).mT, sigma).mT


def _blur_columns(image: Tensor, sigma: float) -> Tensor:
    n = len(image)
    blurred = torch.empty_like(image)
    for i in range(n):
        weights = [math.exp(-((i - j) ** 2) / (2 * sigma**2)) for j in range(n)]
        weighted = [weight * image[j] for j, weight in enumerate(weights)]
        blurred[i] = torch.stack(weighted).sum(0) / sum(weights)
    return blurred


def pointing_game(saliency: Tensor, mask: Tensor) -> float:
    """Share of the largest entries of one map (H, W) that is in the mask."""
    pairs = list(zip(saliency.flatten().tolist(), mask.flatten().tolist(), strict=True))
    best = max(value for value, _ in pairs)
    hits = [bool(inside) for value, inside in pairs if value == best]
    return sum(hits) / len(hits)


def mask_iou(saliency: Tensor, mask: Tensor) -> float:
    """IoU of the mask (H, W) with as many of the largest entries, by sets."""
    values = saliency.flatten().tolist()
    truth = {i for i, inside in enumerate(mask.flatten().tolist()) if inside}
    ranked = sorted(range(len(values)), key=lambda i: -values[i])
    chosen = set(ranked[: len(truth)])
    return len(chosen & truth) / len(chosen | truth)
