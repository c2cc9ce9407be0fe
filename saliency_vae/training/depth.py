"""How a network learns which images are out of its depth."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import KFold
from torch import Tensor

from saliency_vae.models.depth import Depth

FALSE_ALARMS = 0.05  # share of images like those of the validation that are declared out of depth
_FOLDS = 5
_FEWEST = 20  # images, by which one in twenty can be told


def fit_depth(depth: Depth, features: Tensor) -> None:
    """Fit what the features of images like those of the validation are.

    95 % of the validation images are not farther than ``farthest``, each measured from the mean and
    the shrunk covariance (Ledoit and Wolf 2004) of the other folds. With fewer than 20 images
    nothing is set.

    Args:
        depth: Where centre, precision and farthest distance are set.
        features: Features of the validation images, (N, F).
    """
    if len(features) < _FEWEST:
        return
    values = features.double().cpu().numpy()
    folds = KFold(_FOLDS, shuffle=True, random_state=0).split(values)
    held_out: list[NDArray[np.float64]] = [
        LedoitWolf().fit(values[fitted]).mahalanobis(values[others]) for fitted, others in folds
    ]
    whole = LedoitWolf().fit(values)
    depth.centre.copy_(torch.from_numpy(whole.location_))
    depth.precision.copy_(torch.from_numpy(whole.precision_))
    depth.farthest.fill_(np.quantile(np.concatenate(held_out), 1 - FALSE_ALARMS))
