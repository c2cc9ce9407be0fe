"""Insertion and deletion, the protocol of RISE (Petsiuk et al. 2018), batched.

Pixels are inserted into the baseline image, or deleted from the image, in the order of their
saliency, ``step`` of them at a time. The curves follow the probability of a target, by default the
classifier's decision for the whole image. Pixels of equal saliency come in reading order; RISE's
code does not define their order.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.metrics.imputation import Imputation
from saliency_vae.metrics.ranking import descending_rank
from saliency_vae.metrics.views import BATCH_SIZE, masked_views


class InsertionDeletion(NamedTuple):
    """Curves from no pixel changed to all, and the areas under them.

    Attributes:
        insertion: Insertion curves, (B, points).
        deletion: Deletion curves, (B, points).
        insertion_auc: Areas under the insertion curves, (B,); higher is better.
        deletion_auc: Areas under the deletion curves, (B,); lower is better.
    """

    insertion: Tensor
    deletion: Tensor
    insertion_auc: Tensor
    deletion_auc: Tensor

    @property
    def symmetric_relevance_gain(self) -> Tensor:
        """Symmetric relevance gain (Bluecher et al. 2024), (B,), in [-1, 1]; higher is better.

        It is the area between two curves of removal, the least salient pixels first minus the most
        salient first. When the least salient ones are removed, the view holds the most salient
        ones, as in insertion: that curve is insertion's, read from its end. So this is the area of
        insertion minus that of deletion. A map in random order has about 0 over any baseline, and
        the opposite order has the opposite gain.
        """
        return self.insertion_auc - self.deletion_auc


def insertion_deletion(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor | Imputation,
    *,
    step: int,
    target: Tensor | None = None,
    batch_size: int = BATCH_SIZE,
) -> InsertionDeletion:
    """Insertion and deletion of the pixels of images.

    Arguments and errors are those of :func:`insertion_curve`.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> classifier = FrozenClassifier(network, name="linear")
        >>> images, saliency = torch.rand(1, 3, 2, 2), torch.rand(1, 2, 2)
        >>> curves = insertion_deletion(classifier, images, saliency, 0 * images, step=1)
        >>> curves.insertion.shape, curves.insertion_auc.shape
        (torch.Size([1, 5]), torch.Size([1]))
    """
    arguments = (classifier, images, saliency, baseline)
    insertion = insertion_curve(*arguments, step=step, target=target, batch_size=batch_size)
    deletion = deletion_curve(*arguments, step=step, target=target, batch_size=batch_size)
    return InsertionDeletion(
        insertion, deletion, area_under_curve(insertion), area_under_curve(deletion)
    )


def insertion_curve(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor | Imputation,
    *,
    step: int,
    target: Tensor | None = None,
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Probability of the target while the image is inserted into its baseline image.

    Args:
        classifier: Classifier that is explained.
        images: Images in [0, 1], (B, 3, H, W).
        saliency: Maps, (B, H, W).
        baseline: What is seen of removed pixels: baseline images, (B, 3, H, W), or an imputation.
        step: Number of pixels changed between two points, >= 1; the last step takes the rest.
        target: What is asked, weights of the logits, (B, classes); None for the decision.
        batch_size: Number of views in memory at once.

    Returns:
        Probabilities, (B, ceil(HW / step) + 1).

    Raises:
        ValueError: If step is not positive.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> classifier = FrozenClassifier(network, name="linear")
        >>> images, saliency = torch.rand(1, 3, 2, 2), torch.rand(1, 2, 2)
        >>> insertion_curve(classifier, images, saliency, 0 * images, step=2).shape
        torch.Size([1, 3])
    """
    return _curve(classifier, images, saliency, baseline, torch.lt, step, target, batch_size)


def deletion_curve(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor | Imputation,
    *,
    step: int,
    target: Tensor | None = None,
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Probability of the target while the baseline image replaces the image.

    Arguments, result and errors are those of :func:`insertion_curve`.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> classifier = FrozenClassifier(network, name="linear")
        >>> images, saliency = torch.rand(1, 3, 2, 2), torch.rand(1, 2, 2)
        >>> deletion_curve(classifier, images, saliency, 0 * images, step=2).shape
        torch.Size([1, 3])
    """
    return _curve(classifier, images, saliency, baseline, torch.ge, step, target, batch_size)


def area_under_curve(curve: Tensor) -> Tensor:
    """Mean height of curves by the trapezoidal rule.

    Args:
        curve: Curves at equidistant points, (..., points).

    Returns:
        Area over a horizontal axis of length 1, (...).

    Example:
        >>> area_under_curve(torch.tensor([0.0, 1.0, 1.0]))
        tensor(0.7500)
    """
    ends = (curve[..., 0] + curve[..., -1]) / 2
    return (curve.sum(-1) - ends) / (curve.shape[-1] - 1)


@torch.no_grad()
def _curve(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor | Imputation,
    keeps: Callable[[Tensor, Tensor], Tensor],
    step: int,
    target: Tensor | None,
    batch_size: int,
) -> Tensor:
    """Curve of one kind: ``keeps`` compares the ranks of the pixels with the number changed."""
    if step < 1:
        raise ValueError(f"Expected step >= 1 pixel. Found {step}.")
    rank = descending_rank(saliency)
    points = math.ceil(rank[0].numel() / step) + 1
    asked = classifier.decide(classifier(images)) if target is None else target

    def kept(image: Tensor, point: Tensor) -> Tensor:
        return keeps(rank[image], (step * point)[:, None, None])

    probability = [
        classifier.probability(classifier(views), asked[image])
        for image, views in masked_views(
            images, baseline, kept, columns=points, batch_size=batch_size
        )
    ]
    return torch.cat(probability).view(len(images), points)
