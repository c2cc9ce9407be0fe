"""Similarity of two sets of maps: sanity checks need them to differ (Adebayo et al. 2018)."""

from typing import NamedTuple

from torch import Tensor

from saliency_vae.metrics.ranking import spearman
from saliency_vae.metrics.scaling import min_max


class Similarity(NamedTuple):
    """Similarity of two maps of each image: 1 if they are alike, about 0 if unrelated.

    Attributes:
        spearman: Rank correlation, (B,) float64.
        ssim: Structural similarity (Wang et al. 2004), (B,).
    """

    spearman: Tensor
    ssim: Tensor


def similarity(first: Tensor, second: Tensor) -> Similarity:
    """Compare two sets of maps of the same images, by rank and by structure.

    Each map is scaled to [0, 1] before SSIM.

    Args:
        first: Maps, (B, H, W); H and W at least 6 pixels, for the window of SSIM.
        second: Maps of the same shape.

    Example:
        >>> import torch
        >>> maps = torch.rand(1, 16, 16)
        >>> similarity(maps, 3 * maps - 1).spearman.round(decimals=3)
        tensor([1.], dtype=torch.float64)
    """
    return Similarity(spearman(first, second), _ssim(min_max(first), min_max(second)))


def _ssim(first: Tensor, second: Tensor) -> Tensor:
    # Imported here, because torchmetrics takes longer to import than torch.
    from torchmetrics.functional.image import structural_similarity_index_measure

    values = structural_similarity_index_measure(
        first[:, None], second[:, None], data_range=1.0, reduction="none"
    )
    assert isinstance(values, Tensor)  # it returns a pair only if more is requested
    return values
