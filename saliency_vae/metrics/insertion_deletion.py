"""Insertion and deletion, the protocol of RISE (Petsiuk et al. 2018), batched.

Pixels are inserted into the baseline image, or deleted from the image, in order of saliency,
``step`` pixels at a time. The curves show the probability of a target, by default the classifier's
decision for the whole image. Ties are broken in reading order; RISE's code leaves their order
undefined.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.metrics.imputation import Imputation
from saliency_vae.metrics.ranking import descending_rank
from saliency_vae.metrics.views import masked_views, view_logits

Keeps = Callable[[Tensor, Tensor], Tensor]


class InsertionDeletion(NamedTuple):
    """Insertion and deletion curves, from no pixel changed to all, and the areas under them.

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

        It is the area between two deletion curves: least salient pixels first minus most salient
        first. The former is the insertion curve read backwards, so the gain is the insertion AUC
        minus the deletion AUC. A random map has a gain of about 0 over any baseline image, and
        reversing the order of the pixels flips the sign of the gain.
        """
        return self.insertion_auc - self.deletion_auc


class CurveEnds(NamedTuple):
    """Ends of the insertion and deletion curves, which are the same for all maps.

    Attributes:
        none: Probability of the target where no pixel is kept, (B,).
        whole: Probability of the target for the whole image, (B,).
    """

    none: Tensor
    whole: Tensor


def insertion_deletion(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor | Imputation,
    *,
    step: int,
    target: Tensor | None = None,
    ends: CurveEnds | None = None,
    batch_size: int | None = None,
) -> InsertionDeletion:
    """Compute insertion and deletion curves and the areas under them.

    Arguments and errors are those of :func:`insertion_curve`. The ends of the curves do not depend
    on the maps; pass ``ends`` to reuse them.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> classifier = FrozenClassifier(network, name="linear")
        >>> images, saliency = torch.rand(1, 3, 2, 2), torch.rand(1, 2, 2)
        >>> curves = insertion_deletion(classifier, images, saliency, 0 * images, step=1)
        >>> curves.insertion.shape, curves.insertion_auc.shape
        (torch.Size([1, 5]), torch.Size([1]))
    """
    asked = _asked(classifier, images, target)
    ends = ends or curve_ends(classifier, images, baseline, asked)
    curves = _Curves(classifier, images, baseline, asked, step, batch_size)
    none, whole = (probability[:, None] for probability in ends)
    insertion = torch.cat([none, curves.between(saliency, torch.lt), whole], dim=1)
    deletion = torch.cat([whole, curves.between(saliency, torch.ge), none], dim=1)
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
    batch_size: int | None = None,
) -> Tensor:
    """Probability of the target as pixels of the image are inserted into its baseline image.

    Args:
        classifier: Classifier to explain.
        images: Images in [0, 1], (B, 3, H, W).
        saliency: Maps, (B, H, W).
        baseline: Replacement of removed pixels: baseline images, (B, 3, H, W), or an imputation.
        step: Number of pixels changed between two points, >= 1; the last step takes the rest.
        target: Target, weights of the logits, (B, classes); None for the decision.
        batch_size: Number of views per forward pass; None chooses it by the image size.

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
    asked = _asked(classifier, images, target)
    return _Curves(classifier, images, baseline, asked, step, batch_size).whole(saliency, torch.lt)


def deletion_curve(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor | Imputation,
    *,
    step: int,
    target: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Probability of the target as pixels of the image are replaced by its baseline image.

    Arguments, result and errors are those of :func:`insertion_curve`.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> classifier = FrozenClassifier(network, name="linear")
        >>> images, saliency = torch.rand(1, 3, 2, 2), torch.rand(1, 2, 2)
        >>> deletion_curve(classifier, images, saliency, 0 * images, step=2).shape
        torch.Size([1, 3])
    """
    asked = _asked(classifier, images, target)
    return _Curves(classifier, images, baseline, asked, step, batch_size).whole(saliency, torch.ge)


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
def curve_ends(
    classifier: FrozenClassifier, images: Tensor, baseline: Tensor | Imputation, target: Tensor
) -> CurveEnds:
    """Ends of all curves: probability of the target with no pixel kept, and with all kept.

    Args:
        classifier: Classifier to explain.
        images: Images in [0, 1], (B, 3, H, W).
        baseline: Replacement of removed pixels: baseline images, (B, 3, H, W), or an imputation.
        target: Target, weights of the logits, (B, classes).

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1, bias=False))
        >>> classifier = FrozenClassifier(network, name="linear", output="sigmoid")
        >>> images, target = torch.rand(1, 3, 2, 2), torch.ones(1, 1)
        >>> curve_ends(classifier, images, 0 * images, target).none
        tensor([0.5000])
    """
    nothing = torch.zeros_like(images[:, :1], dtype=torch.bool)
    none = view_logits(classifier, images, nothing, baseline)[:, 0]
    whole = view_logits(classifier, images, ~nothing, images)[:, 0]
    return CurveEnds(classifier.probability(none, target), classifier.probability(whole, target))


@torch.no_grad()
def _asked(classifier: FrozenClassifier, images: Tensor, target: Tensor | None) -> Tensor:
    return classifier.decide(classifier(images)) if target is None else target


@dataclass(frozen=True)
class _Curves:
    """Computes curves of the same images for any maps."""

    classifier: FrozenClassifier
    images: Tensor
    baseline: Tensor | Imputation
    target: Tensor
    step: int
    batch_size: int | None

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"Expected step >= 1 pixel. Found {self.step}.")

    def whole(self, saliency: Tensor, keeps: Keeps) -> Tensor:
        """Curve from no pixel changed to all, (B, points)."""
        return self._points(saliency, keeps, 0, self._last(saliency) + 1)

    def between(self, saliency: Tensor, keeps: Keeps) -> Tensor:
        """Curve without its two ends, (B, points - 2)."""
        return self._points(saliency, keeps, 1, self._last(saliency))

    def _last(self, saliency: Tensor) -> int:
        return math.ceil(saliency[0].numel() / self.step)

    @torch.no_grad()
    def _points(self, saliency: Tensor, keeps: Keeps, first: int, end: int) -> Tensor:
        """Points first to end - 1 of a curve; ``keeps`` compares ranks with the number changed."""
        rank = descending_rank(saliency)

        def kept(image: Tensor, column: Tensor) -> Tensor:
            return keeps(rank[image], (self.step * (first + column))[:, None, None])

        views = masked_views(
            self.images, self.baseline, kept, columns=end - first, batch_size=self.batch_size
        )
        probability = [
            self.classifier.probability(self.classifier(seen), self.target[image])
            for image, seen in views
        ]
        found = torch.cat([self.images.new_zeros(0), *probability])
        return found.view(len(self.images), end - first)
