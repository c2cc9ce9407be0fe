"""Imputation: removed pixels are estimated from the kept ones.

A baseline image depends on the whole image, including the removed pixels; an imputation depends on
the kept pixels only. Training rejects imputations, so that every explainer can be evaluated over
replacements that no training used.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from saliency_vae.metrics.neighbour_mean import fill_with_neighbour_means
from saliency_vae.metrics.pyramid import push_pull

_CACHED = 8  # images at once on a CPU; more would leave its cache and be slower


class Imputation(Protocol):
    """A way to estimate removed pixels from the kept ones."""

    def __call__(self, images: Tensor, kept: Tensor, /) -> Tensor:
        """Replace the removed pixels of images.

        Args:
            images: Images in [0, 1], (n, 3, H, W).
            kept: Pixels to keep, (n, H, W) bool.

        Returns:
            Views in [0, 1], (n, 3, H, W), with the kept pixels unchanged.
        """
        ...


class InPainting:
    """Push-pull in-painting (Gortler et al. 1996): smooth, but sharp next to kept pixels.

    An image without any kept pixel is filled with its mean colour.

    Example:
        >>> images, kept = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)
        >>> images[0, :, 0, 0], kept[0, 0, 0] = 0.5, True
        >>> InPainting()(images, kept)[0, 0]
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
    """

    @torch.no_grad()
    def __call__(self, images: Tensor, kept: Tensor) -> Tensor:
        """Replace removed pixels, see :class:`Imputation`."""
        return _part_by_part(_push_pulled, images, kept)


@dataclass(frozen=True)
class NoisyLinearImputation:
    """Noisy linear imputation of ROAD (Rong et al. 2022).

    Each removed pixel is the weighted mean of its eight neighbours: 1/6 for direct and 1/12 for
    diagonal ones, scaled up at the border to sum to 1. The linear system is solved to within about
    a grey level in the worst pixel. Small noise, the same for every view, hides from a classifier
    that these pixels are smooth. An image without any kept pixel is filled with its mean colour.

    Args:
        noise: Standard deviation of the noise, >= 0.
        seed: Seed of the noise.

    Raises:
        ValueError: If noise is negative.

    Example:
        >>> images, kept = torch.zeros(1, 3, 1, 3), torch.tensor([[[True, False, True]]])
        >>> images[..., 2] = 1
        >>> NoisyLinearImputation(noise=0.0)(images, kept)[0, 0]
        tensor([[0.0000, 0.5000, 1.0000]])
    """

    noise: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ValueError(f"Expected noise >= 0. Found {self.noise}.")

    @torch.no_grad()
    def __call__(self, images: Tensor, kept: Tensor) -> Tensor:
        """Replace removed pixels, see :class:`Imputation`."""
        generator = torch.Generator().manual_seed(self.seed)
        noise = self.noise * torch.randn(images.shape[1:], generator=generator).to(images)
        smooth = _part_by_part(_neighbour_means, images, kept)
        return torch.where(kept[:, None], images, (smooth + noise).clamp(0, 1))


def _push_pulled(colours: Tensor, kept: Tensor) -> Tensor:
    return push_pull(colours, kept, colours.mean((0, 1)))


def _neighbour_means(colours: Tensor, kept: Tensor) -> Tensor:
    return fill_with_neighbour_means(_push_pulled(colours, kept), 1 - kept)


def _part_by_part(
    impute: Callable[[Tensor, Tensor], Tensor], images: Tensor, kept: Tensor
) -> Tensor:
    """Apply an imputation of maps (H, W, 3n) to a few images at a time, see :mod:`.pyramid`."""
    size = _CACHED if images.device.type == "cpu" else max(1, len(images))
    views = []
    with _one_thread():
        for part, mask in zip(torch.split(images, size), torch.split(kept, size), strict=True):
            channels, number = part.shape[1], len(part)
            colours = part.permute(2, 3, 1, 0).flatten(2)
            filled = impute(colours, mask.permute(1, 2, 0).repeat(1, 1, channels).to(part.dtype))
            views.append(filled.view(*filled.shape[:2], channels, number).permute(3, 2, 0, 1))
    return torch.cat(views)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: on busy cores, several would wait for each other at thousands of steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
