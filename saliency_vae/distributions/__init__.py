"""Gaussian distributions over saliency maps, event shape (h, w), and KL in closed form."""

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
    "CorrelatedNormal",
    "DiagonalNormal",
    "ExponentialPrior",
    "Family",
    "INCLUSION_FRACTION",
    "KroneckerNormal",
    "SaliencyPosterior",
    "SaliencyPrior",
    "SoftTVNormal",
    "kl_floor",
    "make_posterior",
]
