"""Extremal perturbations (Fong et al. 2019): masks of given areas, optimised for each image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.baselines.target_score import target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.perturbations import blurred, perturb
from saliency_vae.runtime.autograd import recording_gradients

_SHARPNESS = 20.0  # of the smooth maximum
_RADIUS = 0.71  # of a bump's flat top, in cells: half of a cell's diagonal
_REACH = 2  # cells on each side that the smooth maximum looks at


class OptimisedMask:
    """Sum of masks of several areas, each optimised to keep the target's log-odds high.

    A mask is optimised on a coarse grid and enlarged by the paper's smooth maximum over Gaussian
    bumps. The paper's penalty controls its area: it is the distance of the sorted values from those
    of a binary mask. Hidden pixels show a Gaussian blur by a sixth of the shorter side.

    Args:
        areas: Areas of the masks, fractions of the image in (0, 1).
        steps: Number of Adam steps; each costs one pass per area.
        grid: Number of cells along the shorter side.
        lr: Learning rate of Adam.
        penalty: Final weight of the area penalty, > 0. It grows linearly from 0, so that the
            log-odds decide which pixels are kept.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        areas: Sequence[float] = (0.05, 0.1, 0.2, 0.4),
        steps: int = 100,
        grid: int = 18,
        lr: float = 0.05,
        penalty: float = 600.0,
    ) -> None:
        if not areas or not all(0 < area < 1 for area in areas):
            raise ValueError(f"Expected at least one area, each in (0, 1). Found {list(areas)}.")
        if steps < 1 or grid < 1 or not (lr > 0 and penalty > 0):
            raise ValueError(
                "Expected steps and grid >= 1, lr and penalty > 0. "
                f"Found {steps}, {grid}, {lr} and {penalty}."
            )
        self.areas = tuple(areas)
        self.steps = steps
        self.grid = grid
        self.lr = lr
        self.penalty = penalty

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        with recording_gradients():
            images, target = batch["image"].detach().clone(), target_of(batch, classifier)
            return self._optimise(images, target, classifier)

    def _optimise(self, images: Tensor, target: Tensor, classifier: FrozenClassifier) -> Tensor:
        """Optimise the masks of all images and areas at once."""
        count, (height, width) = len(self.areas), images.shape[-2:]
        side = min(height, width) / self.grid
        shape = count * len(images), round(height / side), round(width / side)
        cells = images.new_full(shape, 0.5).requires_grad_()
        areas = images.new_tensor(self.areas).repeat(len(images))
        images, target = images.repeat_interleave(count, 0), target.repeat_interleave(count, 0)
        baseline = blurred(images)
        optimizer = torch.optim.Adam([cells], lr=self.lr)
        for step in range(self.steps):
            masks = smoothly_enlarged(cells, height, width)
            logits = classifier(perturb(images, masks, baseline))
            penalty = self.penalty * step / self.steps * area_penalty(masks, areas)
            optimizer.zero_grad()
            loss = penalty - classifier.log_odds(logits, target)
            torch.autograd.backward(loss.sum())
            optimizer.step()
            with torch.no_grad():
                cells.clamp_(0, 1)
        masks = smoothly_enlarged(cells.detach(), height, width)
        return masks.view(-1, count, height, width).sum(1)


def area_penalty(masks: Tensor, areas: Tensor) -> Tensor:
    """Mean squared distance of the sorted values of masks from those of binary masks.

    Args:
        masks: Masks in [0, 1], (N, H, W).
        areas: Share of ones in the binary masks, (N,), in (0, 1).

    Returns:
        Penalty, (N,), >= 0; 0 if the mask is binary and has the given area.

    Example:
        >>> masks = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
        >>> area_penalty(masks, torch.tensor([0.25, 0.25]))
        tensor([0.0000, 0.2500])
    """
    ordered = masks.flatten(1).sort(1).values
    place = torch.arange(ordered.shape[1], device=masks.device)
    ideal = (place >= ((1 - areas) * ordered.shape[1]).round()[:, None]).to(ordered)
    return (ordered - ideal).square().mean(1)


def smoothly_enlarged(cells: Tensor, height: int, width: int) -> Tensor:
    """Enlarge masks by a smooth maximum over Gaussian bumps, one for each cell.

    A bump is flat within its cell's radius and falls off outside it.

    Args:
        cells: Masks in [0, 1], (N, rows, columns).
        height: Height of the image.
        width: Width of the image.

    Returns:
        Masks, (N, height, width), in [0, 1].
    """
    rows, down = _cells(height, cells.shape[1], cells.device)
    columns, right = _cells(width, cells.shape[2], cells.device)
    distance = torch.hypot(down[:, None, :, None], right[None, :, None, :]).flatten(0, 1)
    bump = torch.exp(-0.5 * (distance - _RADIUS).clamp(min=0).square())  # (window^2, H, W)
    window = 2 * _REACH + 1
    padded = F.pad(cells[:, None], (_REACH,) * 4, mode="replicate")
    around = F.unfold(padded, window).view(len(cells), window**2, *cells.shape[1:])
    highest = _smooth_maximum(bump[None])  # the result for a mask of ones
    raised = _smooth_maximum(bump * around[:, :, rows[:, None], columns])
    return (raised / highest).clamp(max=1)


def _smooth_maximum(values: Tensor) -> Tensor:
    """Mean of values (N, n, ...) weighted by their softmax: (N, ...)."""
    return ((_SHARPNESS * values).softmax(1) * values).sum(1)


def _cells(pixels: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cell of each pixel, (pixels,), and distances to the centres nearby, (window, pixels)."""
    position = (torch.arange(pixels, device=device) + 0.5) * cells / pixels
    cell = position.long()
    shift = torch.arange(-_REACH, _REACH + 1, device=device)
    return cell, position - (cell + shift[:, None] + 0.5)
