"""Alternative explanations: maps from the posterior that keep the decision and differ."""

import torch
from torch import Tensor

DRAWS = 4  # maps drawn for each alternative


def choose_alternatives(mean: Tensor, drawn: Tensor, wanted: Tensor, number: int) -> Tensor:
    """Choose kept sets that overlap little, one after the other.

    Each time, it is the set whose largest overlap with the mean's and with those already chosen is
    smallest. Sets that are not wanted are chosen only when no other is left.

    Args:
        mean: Kept set of the mean, (B, h, w) bool.
        drawn: Kept sets of maps drawn from the posterior, all of one size, (B, draws, h, w) bool.
        wanted: Whether each is wanted, such as for keeping the decision, (B, draws) bool.
        number: Number of sets to choose, at most ``draws``.

    Returns:
        Their indices, (B, number).

    Example:
        >>> mean = torch.tensor([[[True, True, False, False]]])
        >>> drawn = torch.tensor([[[1, 1, 0, 0]], [[1, 0, 1, 0]], [[0, 0, 1, 1]]]).bool()[None]
        >>> choose_alternatives(mean, drawn, torch.tensor([[True, True, False]]), number=2)
        tensor([[1, 0]])
    """
    sets = torch.cat([mean[:, None], drawn], dim=1).flatten(2).float()
    pixels = sets @ sets.mT  # in both sets
    overlap = pixels / pixels.diagonal(dim1=1, dim2=2).amax(1)[:, None, None]
    unwanted = 2.0 * ~wanted  # more than any overlap
    largest, chosen = overlap[:, 0, 1:], list[Tensor]()
    for _ in range(number):
        index = (largest + unwanted).argmin(1)
        chosen.append(index)
        with_chosen = overlap[torch.arange(len(index)), 1 + index, 1:]
        largest = largest.maximum(with_chosen).scatter(1, index[:, None], torch.inf)
    return torch.stack(chosen, dim=1)
