"""Images seen through masks, a batch of bounded size at a time."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from saliency_vae.metrics.imputation import Imputation

BATCH_SIZE = 64  # views that the classifier sees at once; 256 is slower on a CPU


def masked_view(images: Tensor, kept: Tensor, baseline: Tensor | Imputation) -> Tensor:
    """Show images through one mask each.

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
    batch_size: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Show each image through several masks; outside a mask its baseline is seen.

    Args:
        images: Images, (B, 3, H, W).
        baseline: Baseline images, (B, 3, H, W), or an imputation of what a mask does not keep.
        kept: Function that gives the masks, (n, H, W) bool, of n pairs of an image and a column,
            both int64 (n,).
        columns: Number of masks for each image.
        batch_size: Number of views in memory at once.

    Yields:
        Indices of n images, (n,), and their views, (n, 3, H, W): B x columns in total, those of an
        image one after another.
    """
    rows = torch.arange(len(images), device=images.device)
    pairs = torch.cartesian_prod(rows, torch.arange(columns, device=images.device))
    for start in range(0, len(pairs), batch_size):
        image, column = pairs[start : start + batch_size].unbind(1)
        behind = baseline[image] if isinstance(baseline, Tensor) else baseline
        yield image, masked_view(images[image], kept(image, column), behind)
