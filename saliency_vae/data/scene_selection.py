"""Selecting the scenes in which the classifier's decision depends on the objects."""

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
_CONFIDENT = 0.5  # least probability of a class with its object
_UNAWARE = 0.1  # highest probability of the same class without it
_TRIED = 20  # most scenes tried for each scene wanted
_AT_ONCE = 32  # scenes tried in one batch


@dataclass(frozen=True)
class Selection:
    """Selected scenes, in which the decision depends on the objects.

    Attributes:
        indices: Indices of the scenes in the sequence of their split.
        classes: Class of each object of these scenes, see :func:`own_classes`.
        tried: Number of scenes tried.
        kind: What these scenes have in common.
    """

    indices: list[int]
    classes: Tensor
    tried: int
    kind: str

    def __str__(self) -> str:
        return f"{len(self.indices)} of {self.tried} scenes, {self.kind}"


def select(scenes: Cutouts, predict: Predict, number: int) -> Selection:
    """Find the first scenes of a split in which the decision depends on the objects.

    Args:
        scenes: Scenes to try, in the order of their sequence.
        predict: Function that returns a classifier's class probabilities.
        number: Number of scenes wanted.

    Raises:
        ValueError: If fewer are found among twenty times that number.
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
    """Find the first scenes of two visible objects with two different classes.

    Args:
        scenes: Scenes of two objects each, tried in the order of their sequence.
        predict: Function that returns a classifier's class probabilities.
        number: Number of scenes wanted. Fewer are returned if twenty times that number do not
            contain enough.
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

    An object has no class if the decision is not confident, or does not depend on the object.

    Args:
        scenes: Scenes of a split.
        indices: Indices of n scenes in the sequence of the split.
        predict: Function that returns the classifier's class probabilities.

    Returns:
        Classes, (n, most objects) int64; -1 for no class.
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
    """Find the first scenes that are accepted, and count the scenes tried."""
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
    """Decision for each image seen, (n,) int64; -1 where it does not depend on the objects.

    It depends on them if it is confident with them, and improbable in the empty image.
    """
    probability, decision = predict(_as_batch(seen)).max(1)
    confident = (probability >= _CONFIDENT).nonzero().flatten()
    rests = torch.zeros_like(decision, dtype=torch.bool)
    if len(confident):
        without = predict(_as_batch([empty[place] for place in confident.tolist()]))
        rests[confident] = without.gather(1, decision[confident, None])[:, 0] <= _UNAWARE
    return decision.where(rests, -1)


def _as_batch(images: Sequence[Pixels]) -> Tensor:
    """Stack pixels (H, W, 3) as images (n, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
