"""Pixels that are the means of their neighbours: the sparse linear system of ROAD, solved fast.

A removed pixel x is to be the mean of its eight neighbours, weighted by 2 (direct) and 1 (diagonal)
of 12. With the pixel itself, by 4, on both sides this is w x = Sx: S sums a neighbourhood and w is
its total weight, see :mod:`saliency_vae.metrics.pyramid`. So w - S, restricted to the removed
pixels, is symmetric and positive definite, and conjugate gradients solve the system. One multigrid
cycle preconditions them (Tatebe 1993), which takes about as many iterations at any size.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from saliency_vae.metrics.pyramid import (
    doubled,
    halved,
    neighbourhood_sums,
    neighbourhood_weights,
)

_ITERATIONS = 5  # leave about a grey level in the worst pixel, and much less in the mean one
_SOLVED = 1e-8  # energy, x' (w - S) x, of an error x that cannot be seen
# Of the eigenvalues of 1 - S / w those in [1/2, 1] belong to errors that a coarser level cannot
# show; this factor reduces all of them to a third or less.
_RELAXATION = 4 / 3


class _Level(NamedTuple):
    """A resolution.

    Attributes:
        weights: Total weight of each neighbourhood, (H, W, 1).
        removed: 1 where a pixel is to be found, else 0, (H, W, n).
        relaxation: Factor of a residual in a smoothing step, (H, W, n).
    """

    weights: Tensor
    removed: Tensor
    relaxation: Tensor

    def apply(self, maps: Tensor) -> Tensor:
        """Apply w - S to maps (H, W, n); the result is 0 at the kept pixels."""
        return (self.weights * maps).sub_(neighbourhood_sums(maps)).mul_(self.removed)


def fill_with_neighbour_means(colours: Tensor, removed: Tensor) -> Tensor:
    """Set removed pixels to the weighted means of their neighbours, which may be removed too.

    Args:
        colours: Maps, (H, W, n), with a first guess at the removed pixels.
        removed: Which pixels are removed, of the same shape: 1, or 0 where they are kept. If all
            are, one colour is a solution, and stays as it is.

    Returns:
        Maps, (H, W, n), with the kept pixels as they are.
    """
    levels = _levels(removed)
    finest = levels[0]
    colours = colours.clone()
    residual = -finest.apply(colours)
    direction = torch.zeros_like(colours)
    before = colours.new_full(colours.shape[2:], torch.inf)
    for _ in range(_ITERATIONS):
        correction = _cycle(residual, levels)
        energy = (residual * correction).sum((0, 1))
        unsolved = energy > _SOLVED  # further steps would divide rounding errors
        direction = direction.mul_(energy / before).add_(correction)
        applied = finest.apply(direction)
        size = torch.where(unsolved, energy / (direction * applied).sum((0, 1)), 0.0)
        colours.addcmul_(size, direction)
        residual.addcmul_(size, applied, value=-1)
        before = torch.where(unsolved, energy, torch.inf)
    return colours


def _levels(removed: Tensor) -> list[_Level]:
    """Make all resolutions, finest first; a coarse pixel is removed if all of its four are."""
    weights = neighbourhood_weights(removed)
    level = _Level(weights, removed, _RELAXATION * removed / weights)
    if max(removed.shape[:2]) <= 2 or not removed.any():
        return [level]
    return [level, *_levels((halved(1 - removed) == 0).to(removed))]


def _cycle(residual: Tensor, levels: list[_Level]) -> Tensor:
    """Approximate the solution of (w - S) x = residual: smooth, correct coarsely, smooth."""
    level, *coarser = levels
    solution = level.relaxation * residual
    if not coarser:
        return solution
    left = residual - level.apply(solution)
    # The transpose of the interpolation, which keeps the preconditioner symmetric.
    coarse = halved(neighbourhood_sums(left.div_(level.weights))).mul_(coarser[0].removed)
    correction = doubled(_cycle(coarse, coarser), level.weights)
    solution.addcmul_(level.removed, correction)
    return solution.addcmul_(level.relaxation, residual - level.apply(solution))
