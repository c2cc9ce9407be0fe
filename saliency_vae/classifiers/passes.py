"""Count the passes of a classifier, a cost of an explanation that is the same on any machine.

One image forward is one pass, and so is one image forward and backward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf


class TooManyPassesError(Exception):
    """Classifiers have seen more images than allowed."""


class Passes:
    """Number of images that classifiers have seen.

    Args:
        at_most: Maximum number of images.

    Attributes:
        number: Number of images so far.
    """

    def __init__(self, at_most: float = inf) -> None:
        self.at_most = at_most
        self.number = 0


_counting: list[Passes] = []


@contextmanager
def counted_passes(at_most: float = inf) -> Iterator[Passes]:
    """Count the images that any :class:`FrozenClassifier` sees within the block.

    Args:
        at_most: Maximum number of images.

    Raises:
        TooManyPassesError: If classifiers see more images.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from saliency_vae.classifiers import FrozenClassifier
        >>> classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), name="toy")
        >>> with counted_passes() as passes:
        ...     logits = classifier(torch.rand(5, 3, 2, 2))
        >>> passes.number
        5
    """
    passes = Passes(at_most)
    _counting.append(passes)
    try:
        yield passes
    finally:
        _counting.remove(passes)


def count_passes(images: int) -> None:
    """Add a number of images to all active counts.

    Raises:
        TooManyPassesError: If a count exceeds its maximum.
    """
    for passes in _counting:
        passes.number += images
    if any(passes.number > passes.at_most for passes in _counting):
        raise TooManyPassesError
