"""A linear classifier that minds some pixels, and not which of the others, and posteriors of it."""

import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import DiagonalNormal, KroneckerNormal
from saliency_vae.evaluation.uncertainty.explained_batch import ExplainedBatch

SIDE, PATCH, IMAGES = 16, 2, 10
# 1, -1, 1 ... of a chessboard: the blur of an image that shows it shows nothing of it.
BOARD = (-1.0) ** (torch.arange(SIDE)[:, None] + torch.arange(SIDE))
# One pixel of the upper half is as good as another. Those of the lower half speak against class 1.
FREE = (torch.arange(SIDE) < SIDE // 2)[:, None].expand(SIDE, SIDE)


def classifier() -> FrozenClassifier:
    """Class 1 where 45 free pixels, and three more for each other pixel, show their board."""
    weights = torch.stack([torch.zeros(SIDE, SIDE), BOARD * torch.where(FREE, 1.0, -3.0)])
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    network.load_state_dict(
        {
            "1.weight": weights[:, None].repeat(1, 3, 1, 1).flatten(1),
            "1.bias": torch.tensor([0.0, -45 * 3 * 0.3]),
        }
    )
    return FrozenClassifier(network, name="board")


def explained(*, knows: bool) -> list[ExplainedBatch]:
    """Images of the board in two batches, and posteriors whose means find free pixels.

    Args:
        knows: Whether the posterior varies among the free pixels, and hardly elsewhere; otherwise
            the other way round.
    """
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(IMAGES, SIDE // PATCH, SIDE // PATCH, generator=generator)
    patches[:, :2] += 1
    mean = patches.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    mean = mean + 0.01 * torch.randn(mean.shape, generator=generator)
    stddev = torch.where(FREE if knows else ~FREE, 1.0, 0.05)
    log_variance = 2 * stddev.log().expand_as(mean)
    images = (0.5 + 0.3 * BOARD).expand(IMAGES, 3, SIDE, SIDE)
    decision = torch.tensor([[0.0, 1.0]]).repeat(IMAGES, 1)
    prior = KroneckerNormal(SIDE, SIDE, correlation=0.9)
    return [
        ExplainedBatch(
            images[part], decision[part], DiagonalNormal(mean[part], log_variance[part]), prior
        )
        for part in (slice(0, 4), slice(4, IMAGES))
    ]


def minds(effect: Tensor) -> Tensor:
    """Whether swapped patches are those that the classifier minds, by the change of log-odds."""
    return effect > 2 * 0.3 * 3 * PATCH**2
