"""Scenes that a classifier can be judged by: those whose decision rests on their objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saliency_vae.data.cutout_scenes import Cutouts
from saliency_vae.data.datamodule import Predict
from saliency_vae.data.scenes import Scene

Pixels = NDArray[np.uint8]  # (H, W, 3)
_CONFIDENT = 0.5  # probability of a class with its object, at least
_UNAWARE = 0.1  # probability of the same class without it, at most
_TRIED = 20  # scenes for each that is wanted, at most
_AT_ONCE = 32  # scenes that are looked at together


@dataclass(frozen=True)
class Selection:
    """Scenes that a classifier can be judged by.

    Attributes:
        indices: Places of the scenes in the sequence of their split.
        classes: Class of each object of these scenes, see :func:`own_classes`.
        tried: Number of scenes that were looked at.
        kind: What these scenes have in common.
    """

    indices: list[int]
    classes: Tensor
    tried: int
    kind: str

    def __str__(self) -> str:
        return f"{len(self.indices)} of {self.tried} scenes, {self.kind}"


def select(scenes: Cutouts, predict: Predict, number: int) -> Selection:
    """Find the first scenes of a split whose decision rests on their objects.

    Args:
        scenes: Scenes to look at, in the order of their sequence.
        predict: Class probabilities of a classifier.
        number: Number of scenes that are wanted.

    Raises:
        ValueError: If too few are found among twenty times as many.
    """

    def accept(composed: Sequence[Scene]) -> Tensor:
        return _resting([s.image for s in composed], [s.empty for s in composed], predict) >= 0

    indices, tried = _search(scenes, accept, number)
    if len(indices) < number:
        raise ValueError(
            f"Expected {number} scenes whose decision rests on their objects. Found {len(indices)} "
            f"among {tried}: lower data.sizes.{scenes.split}, or give cut-outs of things that the "
            "classifier knows."
        )
    kind = (
        "in which the classifier gives its decision a probability of at least "
        f"{_CONFIDENT} with the objects and at most {_UNAWARE} without them"
    )
    return Selection(indices, own_classes(scenes, indices, predict), tried, kind)


def select_pairs(scenes: Cutouts, predict: Predict, number: int) -> Selection:
    """Find the first scenes of two objects that each have a class of their own, not the same one.

    Args:
        scenes: Scenes of two objects each, looked at in the order of their sequence.
        predict: Class probabilities of a classifier.
        number: Number of scenes that are wanted. Fewer are returned if twenty times as many do
            not hold them.
    """

    def accept(composed: Sequence[Scene]) -> Tensor:
        one, other = (
            _resting([s.alone(j) for s in composed], [s.empty for s in composed], predict)
            for j in range(2)
        )
        seen = torch.tensor([bool(s.masks.any((1, 2)).all()) for s in composed])
        return seen & (one >= 0) & (other >= 0) & (one != other)

    indices, tried = _search(scenes, accept, number)
    kind = (
        "whose two objects have different classes: each one alone, in its place, gets a "
        f"probability of at least {_CONFIDENT}, and its class at most {_UNAWARE} without it"
    )
    return Selection(indices, own_classes(scenes, indices, predict), tried, kind)


def own_classes(scenes: Cutouts, indices: Sequence[int], predict: Predict) -> Tensor:
    """Class of each object: the classifier's decision for the scene with that object alone.

    An object has none if the decision is not confident, or does not rest on the object.

    Args:
        scenes: Scenes of a split.
        indices: Places of n scenes in the sequence of the split.
        predict: Class probabilities of the classifier.

    Returns:
        Classes, (n, most objects) int64; -1 where there is none.
    """
    classes = torch.full((len(indices), scenes.number[1]), -1)
    for row, index in zip(classes, indices, strict=True):
        scene = scenes.scene(index)
        alone = [scene.alone(place) for place in range(len(scene.layers))]
        row[: len(alone)] = _resting(alone, [scene.empty] * len(alone), predict)
    return classes


def _search(
    scenes: Cutouts, accept: Callable[[Sequence[Scene]], Tensor], number: int
) -> tuple[list[int], int]:
    """Find the first scenes that are accepted, and count those that were looked at."""
    found: list[int] = []
    tried = 0
    while len(found) < number and tried < _TRIED * number:
        indices = range(tried, tried + _AT_ONCE)
        accepted = accept([scenes.scene(index) for index in indices])
        for index, good in zip(indices, accepted.tolist(), strict=True):
            tried += 1
            if good:
                found.append(index)
            if len(found) == number:
                break
    return found, tried


def _resting(seen: Sequence[Pixels], empty: Sequence[Pixels], predict: Predict) -> Tensor:
    """Decision for each image seen, (n,) int64; -1 where it does not rest on the objects.

    It does if it is confident with the objects and improbable in the empty image without them.
    """
    probability, decision = predict(_as_batch(seen)).max(1)
    confident = (probability >= _CONFIDENT).nonzero().flatten()
    rests = torch.zeros_like(decision, dtype=torch.bool)
    if len(confident):
        without = predict(_as_batch([empty[place] for place in confident.tolist()]))
        rests[confident] = without.gather(1, decision[confident, None])[:, 0] <= _UNAWARE
    return decision.where(rests, -1)


def _as_batch(images: Sequence[Pixels]) -> Tensor:
    """Images (n, 3, H, W) in [0, 1] of pixels (H, W, 3)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
