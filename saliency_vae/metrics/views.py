"""Images seen through masks, a batch of bounded size at a time."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

BATCH_SIZE = 64  # views that a classifier sees at once; 256 is slower on a CPU


def masked_views(
    images: Tensor,
    baseline: Tensor,
    kept: Callable[[Tensor, Tensor], Tensor],
    *,
    columns: int,
    batch_size: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Show every image through each of its masks: pixels outside the mask are the baseline's.

    Args:
        images: (B, 3, H, W).
        baseline: (B, 3, H, W).
        kept: Gives the masks (n, H, W) bool of n images and columns, both int64 (n,).
        columns: Number of masks of an image.
        batch_size: Views in memory at once.

    Yields:
        Which images, (n,), and their views, (n, 3, H, W); in all B x columns, row by row.
    """
    rows = torch.arange(len(images), device=images.device)
    pairs = torch.cartesian_prod(rows, torch.arange(columns, device=images.device))
    for start in range(0, len(pairs), batch_size):
        image, column = pairs[start : start + batch_size].unbind(1)
        mask = kept(image, column)[:, None]
        yield image, torch.where(mask, images[image], baseline[image])
