"""Fits the out-of-distribution detector :class:`Depth`."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from sklearn.model_selection import KFold
from torch import Tensor

from saliency_vae.models.depth import Depth

Features = NDArray[np.float64]

FALSE_ALARMS = 0.05  # share of validation-like images that are declared out of depth
_FOLDS = 5
_FEWEST = 20  # images, so that one in twenty is at least one


def fit_depth(depth: Depth, features: Tensor) -> None:
    """Fit the detector to the features of validation images.

    ``farthest`` is the 95 % quantile of the validation images' distances, each measured with the
    mean and shrunk covariance (Ledoit and Wolf 2004) of the other folds. With fewer than 20 images
    nothing is set.

    Args:
        depth: Detector whose centre, precision and farthest distance are set.
        features: Features of the validation images, (N, F); it may use only the first of them.
    """
    if len(features) < _FEWEST:
        return
    values = features[:, : len(depth.centre)].double().cpu().numpy()
    folds = KFold(_FOLDS, shuffle=True, random_state=0).split(values)
    held_out = [_distance(values[others], *_normal(values[fitted])) for fitted, others in folds]
    centre, precision = _normal(values)
    depth.centre.copy_(torch.from_numpy(centre))
    depth.precision.copy_(torch.from_numpy(precision))
    depth.farthest.fill_(np.quantile(np.concatenate(held_out), 1 - FALSE_ALARMS))


def _normal(features: Features) -> tuple[Features, Features]:
    """Mean (F,) and inverse of the shrunk covariance (F, F) of features (N, F)."""
    covariance, _ = ledoit_wolf(features)
    return features.mean(0), np.linalg.inv(covariance)


def _distance(features: Features, centre: Features, precision: Features) -> Features:
    """Squared Mahalanobis distance of features (N, F), (N,)."""
    away: Features = features - centre
    return np.asarray(((away @ precision) * away).sum(1))
