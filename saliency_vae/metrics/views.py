"""Masked views of images, made and classified in batches of bounded size."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.metrics.imputation import Imputation

_MOST = 64  # most views per forward pass
_PIXELS_ON_CPU = 2**18  # most pixels per forward pass: larger activations leave a CPU's cache
_SET_ON_CPU = 16  # views per pass of view_logits: a CPU rounds the logits of a few differently


def views_at_once(images: Tensor) -> int:
    """Number of views of the size of images (B, 3, H, W) per forward pass.

    Example:
        >>> views_at_once(torch.rand(1, 3, 128, 128)), views_at_once(torch.rand(1, 3, 48, 48))
        (16, 64)
    """
    if images.device.type != "cpu":
        return _MOST
    return min(_MOST, max(1, _PIXELS_ON_CPU // images[0, 0].numel()))


def masked_view(images: Tensor, kept: Tensor, baseline: Tensor | Imputation) -> Tensor:
    """Replace the pixels that each image's mask does not keep.

    Args:
        images: Images, (n, 3, H, W).
        kept: Pixels to keep, (n, H, W) bool.
        baseline: Baseline images, (n, 3, H, W), or an imputation of the pixels that are not kept.

    Returns:
        Views, (n, 3, H, W).
    """
    if isinstance(baseline, Tensor):
        return torch.where(kept[:, None], images, baseline)
    return baseline(images, kept)


def masked_views(
    images: Tensor,
    baseline: Tensor | Imputation,
    kept: Callable[[Tensor, Tensor], Tensor],
    *,
    columns: int,
    batch_size: int | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield views of each image through several masks, over its baseline, in batches.

    Args:
        images: Images, (B, 3, H, W).
        baseline: Baseline images, (B, 3, H, W), or an imputation of the pixels that are not kept.
        kept: Function of the image index and mask index of n views, both int64 (n,), that returns
            their masks, (n, H, W) bool.
        columns: Number of masks for each image.
        batch_size: Number of views in memory at once; None for that of :func:`views_at_once`.

    Yields:
        Image indices, (n,), of n views, and the views, (n, 3, H, W): B x columns views in total,
        grouped by image.
    """
    rows = torch.arange(len(images), device=images.device)
    batch_size = batch_size or views_at_once(images)
    pairs = torch.cartesian_prod(rows, torch.arange(columns, device=images.device))
    for start in range(0, len(pairs), batch_size):
        image, column = pairs[start : start + batch_size].unbind(1)
        behind = baseline[image] if isinstance(baseline, Tensor) else baseline
        yield image, masked_view(images[image], kept(image, column), behind)


@torch.no_grad()
def view_logits(
    classifier: FrozenClassifier, images: Tensor, masks: Tensor, baseline: Tensor | Imputation
) -> Tensor:
    """Classify views of each image through several masks: 64 at a time, or 16 on a CPU.

    Args:
        classifier: Classifier on the images' device.
        images: Images in [0, 1], (B, 3, H, W).
        masks: Pixels to keep, (B, views, H, W) bool.
        baseline: Baseline images, (B, 3, H, W), or an imputation of the pixels that are not kept.

    Returns:
        Logits, (B, views, classes).

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> classifier = FrozenClassifier(network, name="linear")
        >>> images, masks = torch.rand(3, 3, 2, 2), torch.rand(3, 4, 2, 2) > 0.5
        >>> view_logits(classifier, images, masks, 0 * images).shape
        torch.Size([3, 4, 2])
    """
    views = masked_views(
        images,
        baseline,
        lambda image, column: masks[image, column],
        columns=masks.shape[1],
        batch_size=_SET_ON_CPU if images.device.type == "cpu" else _MOST,
    )
    logits = torch.cat([classifier(seen) for _, seen in views])
    return logits.view(*masks.shape[:2], -1)
