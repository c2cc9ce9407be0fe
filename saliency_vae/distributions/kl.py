"""KL(q || p) between posterior and prior, nats per image, every constant included (equation 1).

Registered with ``torch.distributions.kl_divergence``.
"""

from torch import Tensor
from torch.distributions import register_kl

from saliency_vae.distributions.posterior import CorrelatedNormal, DiagonalNormal, SaliencyPosterior
from saliency_vae.distributions.prior import SaliencyPrior


@register_kl(DiagonalNormal, SaliencyPrior)  # type: ignore[no-untyped-call, untyped-decorator]  # torch's
def _kl_diagonal(q: DiagonalNormal, p: SaliencyPrior) -> Tensor:
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"Expected a prior over maps of {tuple(q.event_shape)}. Found {tuple(p.event_shape)}."
        )
    size = p.event_shape.numel()
    trace = (p.precision_diagonal * q.variance).sum((-2, -1))
    log_ratio = p.log_determinant - q.log_variance.sum((-2, -1))
    return 0.5 * (trace + p.mahalanobis(q.mean - p.mean) - size + log_ratio)


@register_kl(CorrelatedNormal, SaliencyPrior)  # type: ignore[no-untyped-call, untyped-decorator]  # torch's
def _kl_correlated(q: CorrelatedNormal, p: SaliencyPrior) -> Tensor:
    if q.prior is not p:
        raise ValueError("Expected the prior that the CorrelatedNormal was made with.")
    # q = N(mu, D Sigma D) with D = diag(sigma / stddev of the prior): log |Sigma| cancels.
    size = p.event_shape.numel()
    scale = q.stddev / p.stddev
    log_ratio = -2 * scale.log().sum((-2, -1))
    distance = p.mahalanobis(q.mean - p.mean)
    return 0.5 * (p.scaled_trace(scale) + distance - size + log_ratio)


def kl_floor(q: SaliencyPosterior, p: SaliencyPrior) -> float:
    """Lowest KL(q || p), nats per image, that q's family can reach.

    A mean-field posterior cannot follow the prior's correlation: its best variance is
    ``1 / precision_diagonal``, about log(1 + rho^2) nats per pixel away. A correlated one can.
    """
    if isinstance(q, CorrelatedNormal):
        return 0.0
    log_precision = p.precision_diagonal.double().log().sum()
    return 0.5 * float(log_precision + p.log_determinant.double())
