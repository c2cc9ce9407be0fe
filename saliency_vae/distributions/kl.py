"""Closed-form KL(q || p) of posterior q and prior p, nats per image, constants included.

The functions are registered with ``torch.distributions.kl_divergence``. They compute the paper's
equation 1 exactly; its equation 5 leaves out the factor 1/2 and the constants.
"""

from torch import Tensor
from torch.distributions import register_kl

from saliency_vae.distributions.posterior import CorrelatedNormal, DiagonalNormal, SaliencyPosterior
from saliency_vae.distributions.prior import SaliencyPrior


@register_kl(DiagonalNormal, SaliencyPrior)  # type: ignore[no-untyped-call, untyped-decorator]  # torch's
def _kl_diagonal(q: DiagonalNormal, p: SaliencyPrior) -> Tensor:
    """KL(N(mu, diag(nu)) || N(m, Sigma)), equation 1."""
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"Expected a prior over maps of {tuple(q.event_shape)}. Found {tuple(p.event_shape)}."
        )
    size = p.event_shape.numel()
    trace = (p.precision_diagonal * q.variance).sum((-2, -1))  # equation 2
    quadratic = p.mahalanobis(q.mean - p.mean)  # equation 3
    log_ratio = p.log_determinant - q.log_variance.sum((-2, -1))  # equation 4
    return 0.5 * (trace + quadratic - size + log_ratio)


@register_kl(CorrelatedNormal, SaliencyPrior)  # type: ignore[no-untyped-call, untyped-decorator]  # torch's
def _kl_correlated(q: CorrelatedNormal, p: SaliencyPrior) -> Tensor:
    """KL(N(mu, D Sigma D) || N(m, Sigma)), D = diag(posterior / prior standard deviation)."""
    if q.prior is not p:
        raise ValueError(
            "Expected the prior that the CorrelatedNormal was made with. "
            "Found another: pass its attribute prior."
        )
    size = p.event_shape.numel()
    scale = q.stddev / p.stddev
    log_ratio = -2 * scale.log().sum((-2, -1))  # log |Sigma| cancels
    quadratic = p.mahalanobis(q.mean - p.mean)
    return 0.5 * (p.scaled_trace(scale) + quadratic - size + log_ratio)


def kl_floor(q: SaliencyPosterior, p: SaliencyPrior) -> float:
    """Lowest KL(q || p), nats per image, that a posterior of q's family can reach.

    A mean-field posterior cannot match the prior's correlation. Its best variance is
    ``1 / precision_diagonal``, which leaves about log(1 + rho^2) nats per pixel under the
    exponential prior. A correlated posterior can reach 0.

    Args:
        q: Posterior; only its family matters.
        p: Prior over maps of the same size.

    Example:
        >>> import torch
        >>> from saliency_vae.distributions import KroneckerNormal
        >>> q = DiagonalNormal(torch.zeros(100, 100), torch.zeros(100, 100))
        >>> round(kl_floor(q, KroneckerNormal(100, 100, correlation=0.9)) / 100**2, 2)
        0.6
    """
    if isinstance(q, CorrelatedNormal):
        return 0.0
    log_precision = p.precision_diagonal.double().log().sum()
    return 0.5 * float(log_precision + p.log_determinant.double())
