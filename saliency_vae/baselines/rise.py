"""RISE, randomised input sampling (Petsiuk et al. 2018)."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from saliency_vae.baselines.target_score import TargetProbability, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.metrics import views_at_once
from saliency_vae.perturbations import perturb


class Rise:
    """Mean of random masks, each weighted by the target's probability for the masked image.

    ``S = 1 / (p N) sum_i f(x * M_i) M_i``. Hidden pixels take the classifier's own mean colour, as
    in the authors' code, which masks normalised images. The masks are the same for all images.

    Args:
        masks: Number of masks N; the paper uses 4,000 at 224x224 pixels for VGG-16.
        grid: Number of cells of a mask along each side, before it is enlarged.
        probability: Probability p that a cell is kept, in (0, 1).
        seed: Seed of the masks.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))
        >>> classifier = FrozenClassifier(network, name="toy")
        >>> Rise(masks=8, grid=2)({"image": torch.rand(5, 3, 4, 4)}, classifier).shape
        torch.Size([5, 4, 4])
    """

    def __init__(
        self, masks: int = 1000, grid: int = 7, probability: float = 0.5, seed: int = 0
    ) -> None:
        if min(masks, grid) < 1 or not 0 < probability < 1:
            raise ValueError(
                "Expected masks and grid >= 1 and probability in (0, 1). "
                f"Found {masks}, {grid} and {probability}."
            )
        self.masks = masks
        self.grid = grid
        self.probability = probability
        self.seed = seed

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        total = sum(
            torch.einsum("bn,nhw->bhw", scores, masks)
            for masks, scores in self.masked_scores(batch, classifier)
        )
        assert isinstance(total, Tensor)  # there is at least one mask
        return total / (self.probability * self.masks)

    def masked_scores(
        self, batch: Batch, classifier: FrozenClassifier
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield masks (n, H, W), and the target's probability for the masked images, (B, n)."""
        images = batch["image"]
        count, _, height, width = images.shape
        score, target = TargetProbability(classifier), target_of(batch, classifier)
        mean = classifier.mean.to(images)
        at_once = max(1, views_at_once(images) // count)
        for cells, shifts in zip(*self._draw(at_once), strict=True):
            masks = enlarge(cells.to(images), shifts.to(images), height, width)
            n = len(masks)
            masked = perturb(images.repeat_interleave(n, 0), masks.repeat(count, 1, 1), mean)
            scores = score(masked, target.repeat_interleave(n, 0)).view(count, n)
            yield masks, scores

    def _draw(self, chunk: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Draw kept cells (n, grid, grid), 0 or 1, and shifts (n, 2) in [0, 1) cells, in chunks."""
        generator = torch.Generator().manual_seed(self.seed)
        cells = torch.rand(self.masks, self.grid, self.grid, generator=generator)
        shifts = torch.rand(self.masks, 2, generator=generator)
        kept = (cells < self.probability).float()
        return torch.split(kept, chunk), torch.split(shifts, chunk)


def enlarge(cells: Tensor, shifts: Tensor, height: int, width: int) -> Tensor:
    """Enlarge grids bilinearly to one cell more than the image, and crop them at given shifts.

    Args:
        cells: Kept cells (N, grid, grid), in [0, 1].
        shifts: Shifts down and right (N, 2), as fractions of a cell, in [0, 1).
        height: Height of the image.
        width: Width of the image.

    Returns:
        Masks (N, height, width), in [0, 1].
    """
    grid = cells.shape[-1]
    rows = _interpolation(shifts[:, 0], height, grid)
    columns = _interpolation(shifts[:, 1], width, grid)
    return rows @ cells @ columns.mT


def _interpolation(shifts: Tensor, size: int, grid: int) -> Tensor:
    """Linear interpolation weights (N, size, grid) of the cells at each pixel."""
    cell = math.ceil(size / grid)
    pixel = torch.arange(size, device=shifts.device) + (shifts * cell).floor()[:, None]
    position = ((pixel + 0.5) * grid / ((grid + 1) * cell) - 0.5).clamp(0, grid - 1)
    return (1 - (position[..., None] - torch.arange(grid, device=shifts.device)).abs()).relu()
