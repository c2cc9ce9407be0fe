"""Agreement: whether the classifier decides the same from the kept pixels alone."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.metrics.imputation import Imputation
from saliency_vae.metrics.ranking import descending_rank
from saliency_vae.metrics.views import masked_views
from saliency_vae.topk import num_kept


@torch.no_grad()
def kept_agreement(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor | Imputation,
    *,
    fractions: Sequence[float],
    target: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Whether an image reduced to its most salient pixels is classified like the whole image.

    Args:
        classifier: Classifier to explain.
        images: Images in [0, 1], (B, 3, H, W).
        saliency: Maps, (B, H, W).
        baseline: Replacement of the removed pixels: baseline images, (B, 3, H, W), or an
            imputation.
        fractions: Shares of the pixels to keep, each in (0, 1].
        target: Target, weights of the logits, (B, classes); None for the decision.
        batch_size: Number of views per forward pass; None chooses it by the image size.

    Returns:
        Agreement, (B, fractions) bool.

    Raises:
        ValueError: If a fraction is not in (0, 1].

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> classifier = FrozenClassifier(network, name="linear")
        >>> images, saliency = torch.rand(1, 3, 2, 2), torch.rand(1, 2, 2)
        >>> kept_agreement(classifier, images, saliency, 0 * images, fractions=[1.0])
        tensor([[True]])
    """
    rank = descending_rank(saliency)
    sizes = [num_kept(fraction, rank[0].numel()) for fraction in fractions]
    number = torch.tensor(sizes, device=rank.device)

    def kept(image: Tensor, column: Tensor) -> Tensor:
        return rank[image] < number[column][:, None, None]

    views = masked_views(images, baseline, kept, columns=len(fractions), batch_size=batch_size)
    return _agreement(classifier, images, views, target).view(len(images), len(fractions))


@torch.no_grad()
def mask_agreement_matrix(
    classifier: FrozenClassifier,
    images: Tensor,
    masks: Tensor,
    baseline: Tensor | Imputation,
    *,
    batch_size: int | None = None,
) -> Tensor:
    """Whether image i seen through the mask of image j is classified like the whole image i.

    A mask that does not depend on its image, such as a centre prior, serves every image as well as
    its own.

    Args:
        classifier: Classifier to explain.
        images: Images in [0, 1], (N, 3, H, W).
        masks: Pixels that the explanation of each image keeps, (N, H, W) bool.
        baseline: Replacement of the removed pixels: baseline images, (N, 3, H, W), or an
            imputation.
        batch_size: Number of views per forward pass; None chooses it by the image size.

    Returns:
        Agreement, (N, N) bool: image i in row i, mask j in column j.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> classifier = FrozenClassifier(network, name="linear")
        >>> images, masks = torch.rand(2, 3, 2, 2), torch.ones(2, 2, 2, dtype=torch.bool)
        >>> mask_agreement_matrix(classifier, images, masks, 0 * images)
        tensor([[True, True],
                [True, True]])
    """

    def kept(image: Tensor, column: Tensor) -> Tensor:
        return masks[column]

    views = masked_views(images, baseline, kept, columns=len(masks), batch_size=batch_size)
    return _agreement(classifier, images, views, None).view(len(images), len(masks))


def _agreement(
    classifier: FrozenClassifier,
    images: Tensor,
    views: Iterable[tuple[Tensor, Tensor]],
    target: Tensor | None,
) -> Tensor:
    """Whether the decision on each view matches the target of its image, (views,) bool."""
    asked = classifier.decide(classifier(images)) if target is None else target
    return torch.cat(
        [classifier.keeps_decision(classifier(view), asked[image]) for image, view in views]
    )


def own_mask_advantage(matrix: Tensor) -> Tensor:
    """Agreement through an image's own mask minus the mean through the masks of other images.

    Args:
        matrix: Matrix of :func:`mask_agreement_matrix`, (N, N), N >= 2.

    Returns:
        Advantage, (N,), in [-1, 1]; its mean is the mean on the diagonal minus the mean off it.

    Raises:
        ValueError: If there is only one image.

    Example:
        >>> own_mask_advantage(torch.tensor([[True, False], [True, True]]))
        tensor([1., 0.], dtype=torch.float64)
    """
    number = len(matrix)
    if number < 2:
        raise ValueError(f"Expected at least 2 images, to exchange their masks. Found {number}.")
    agrees = matrix.double()
    own = agrees.diagonal()
    return own - (agrees.sum(1) - own) / (number - 1)
