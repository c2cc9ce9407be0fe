"""Gaussian distributions over saliency maps (h, w): the posteriors q(s|x) and the priors p(s).

``torch.distributions.kl_divergence`` between the two is exact, in closed form (equation 1).
"""

from saliency_vae.distributions.kl import kl_floor
from saliency_vae.distributions.kronecker import KroneckerNormal
from saliency_vae.distributions.learned_prior import ExponentialPrior
from saliency_vae.distributions.posterior import (
    INCLUSION_FRACTION,
    CorrelatedNormal,
    DiagonalNormal,
    Family,
    SaliencyPosterior,
    make_posterior,
)
from saliency_vae.distributions.prior import SaliencyPrior
from saliency_vae.distributions.soft_tv import SoftTVNormal

__all__ = [
    "INCLUSION_FRACTION",
    "CorrelatedNormal",
    "DiagonalNormal",
    "ExponentialPrior",
    "Family",
    "KroneckerNormal",
    "SaliencyPosterior",
    "SaliencyPrior",
    "SoftTVNormal",
    "kl_floor",
    "make_posterior",
]
