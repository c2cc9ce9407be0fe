"""Whether explanations change when the classifier does (Adebayo et al. 2018)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from saliency_vae.metrics.ranking import spearman


class Similarity(NamedTuple):
    """Likeness of two maps of each image, (B,) each: 1 if alike, about 0 if unrelated."""

    spearman: Tensor
    ssim: Tensor


def similarity(first: Tensor, second: Tensor) -> Similarity:
    """Compare two sets of maps of the same images, by rank and by structure.

    Args:
        first: (B, H, W), H and W at least 6 pixels (SSIM's window).
        second: Of the same shape. Every map is stretched to [0, 1] for SSIM.
    """
    return Similarity(spearman(first, second), _ssim(_stretch(first), _stretch(second)))


def _stretch(maps: Tensor) -> Tensor:
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)


def _ssim(first: Tensor, second: Tensor) -> Tensor:
    values = structural_similarity_index_measure(
        first[:, None], second[:, None], data_range=1.0, reduction="none"
    )
    assert isinstance(values, Tensor)  # a pair only where more is asked for
    return values
