"""Whether the classifier still decides alike when it sees only what an explanation keeps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.metrics.ranking import descending_rank
from saliency_vae.metrics.views import BATCH_SIZE, masked_views
from saliency_vae.topk import num_kept as kept_pixels


@torch.no_grad()
def kept_agreement(
    classifier: FrozenClassifier,
    images: Tensor,
    saliency: Tensor,
    baseline: Tensor,
    *,
    fractions: Sequence[float],
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Whether the most salient pixels over a baseline decide as the whole image does.

    Args:
        classifier: That decides.
        images: In [0, 1], (B, 3, H, W).
        saliency: (B, H, W).
        baseline: Images without information, (B, 3, H, W).
        fractions: Of the pixels to keep, each in (0, 1].
        batch_size: Views in memory at once.

    Returns:
        (B, fractions) bool.

    Raises:
        ValueError: If a fraction is not in (0, 1].
    """
    rank = descending_rank(saliency)
    sizes = [kept_pixels(fraction, rank[0].numel()) for fraction in fractions]
    number = torch.tensor(sizes, device=rank.device)

    def kept(image: Tensor, column: Tensor) -> Tensor:
        return rank[image] < number[column][:, None, None]

    decided = classifier(images)
    agrees = [
        classifier.agreement(decided[image], classifier(views))
        for image, views in masked_views(
            images, baseline, kept, columns=len(fractions), batch_size=batch_size
        )
    ]
    return torch.cat(agrees).view(len(images), len(fractions))


@torch.no_grad()
def mask_agreement_matrix(
    classifier: FrozenClassifier,
    images: Tensor,
    masks: Tensor,
    baseline: Tensor,
    *,
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Whether image i seen through the mask of image j decides as the whole image i does.

    A mask that carries the class by its shape, rather than showing where the class is, serves
    every image as well as its own.

    Args:
        classifier: That decides.
        images: In [0, 1], (N, 3, H, W).
        masks: What each image's explanation keeps, (N, H, W) bool.
        baseline: Images without information, (N, 3, H, W).
        batch_size: Views in memory at once.

    Returns:
        (N, N) bool: row i of image i, column j of mask j.
    """
    decided = classifier(images)
    agrees = [
        classifier.agreement(decided[image], classifier(views))
        for image, views in masked_views(
            images,
            baseline,
            lambda image, column: masks[column],
            columns=len(masks),
            batch_size=batch_size,
        )
    ]
    return torch.cat(agrees).view(len(images), len(masks))


def own_mask_advantage(matrix: Tensor) -> Tensor:
    """Agreement through an image's own mask minus the mean through the others' masks.

    Args:
        matrix: From :func:`mask_agreement_matrix`, (N, N), N >= 2.

    Returns:
        (N,) in [-1, 1]. Its mean is the diagonal's mean minus the mean off the diagonal.

    Raises:
        ValueError: If there is only one image.
    """
    number = len(matrix)
    if number < 2:
        raise ValueError(f"Expected at least 2 images, each the other's wrong one. Found {number}.")
    agrees = matrix.double()
    own = agrees.diagonal()
    return own - (agrees.sum(1) - own) / (number - 1)
