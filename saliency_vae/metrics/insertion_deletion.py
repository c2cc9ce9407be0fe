"""Insertion and deletion, the protocol of RISE (Petsiuk et al. 2018), batched.

Pixels are inserted into the baseline, or deleted from the image, in the order of their saliency,
``step`` of them at a time, while the probability of the class decided at first is watched. RISE's
code leaves the order of equal pixels open; here they come in reading order.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.metrics.ranking import descending_rank
from saliency_vae.metrics.views import BATCH_SIZE, masked_views


class InsertionDeletion(NamedTuple):
    """Curves from no pixel changed to all, (B, points), and the areas under them, (B,)."""

    insertion: Tensor
    deletion: Tensor
    insertion_auc: Tensor
    deletion_auc: Tensor


def insertion_deletion(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor,
    *,
    step: int,
    batch_size: int = BATCH_SIZE,
) -> InsertionDeletion:
    """Insert and delete the pixels of images; see :func:`insertion_curve` for the arguments."""
    arguments = (classifier, images, saliency, baseline)
    insertion = insertion_curve(*arguments, step=step, batch_size=batch_size)
    deletion = deletion_curve(*arguments, step=step, batch_size=batch_size)
    return InsertionDeletion(
        insertion, deletion, area_under_curve(insertion), area_under_curve(deletion)
    )


def insertion_curve(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor,
    *,
    step: int,
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Probability of the first decision while the image is inserted into the baseline.

    Args:
        classifier: That decides.
        images: In [0, 1], (B, 3, H, W).
        saliency: (B, H, W).
        baseline: Images without information, (B, 3, H, W).
        step: Pixels changed between two points, >= 1; the last step takes what is left.
        batch_size: Images x points in memory at once.

    Returns:
        Probabilities, (B, ceil(HW / step) + 1).

    Raises:
        ValueError: If step is not positive.
    """
    return _curve(classifier, images, saliency, baseline, torch.lt, step, batch_size)


def deletion_curve(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor,
    *,
    step: int,
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Probability of the first decision while the baseline replaces the image.

    Arguments, result and errors are those of :func:`insertion_curve`.
    """
    return _curve(classifier, images, saliency, baseline, torch.ge, step, batch_size)


def area_under_curve(curve: Tensor) -> Tensor:
    """Mean height of curves (..., points) by the trapezoidal rule: (...)."""
    ends = (curve[..., 0] + curve[..., -1]) / 2
    return (curve.sum(-1) - ends) / (curve.shape[-1] - 1)


@torch.no_grad()
def _curve(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor,
    keeps: Callable[[Tensor, Tensor], Tensor],
    step: int,
    batch_size: int,
) -> Tensor:
    if step < 1:
        raise ValueError(f"Expected step >= 1 pixel. Found {step}.")
    rank = descending_rank(saliency)
    points = math.ceil(rank[0].numel() / step) + 1
    decided = _outcomes(classifier, images).argmax(1, keepdim=True)

    def kept(image: Tensor, point: Tensor) -> Tensor:
        return keeps(rank[image], (step * point)[:, None, None])

    probability = [
        _outcomes(classifier, views).gather(1, decided[image])
        for image, views in masked_views(
            images, baseline, kept, columns=points, batch_size=batch_size
        )
    ]
    return torch.cat(probability).view(len(images), points)


def _outcomes(classifier: FrozenClassifier, images: Tensor) -> Tensor:
    """Class probabilities; a single label has two outcomes, its absence and itself."""
    probability = classifier.probabilities(classifier(images))
    return (
        torch.cat([1 - probability, probability], 1) if probability.shape[1] == 1 else probability
    )
