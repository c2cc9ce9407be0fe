"""Scenes of cut-out objects pasted on photographs, with a known mask for each object.

Every image is a function of (seed, split, index) alone, and the splits share neither objects nor
photographs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.data.batch import Batch
from saliency_vae.data.cutout_files import Split
from saliency_vae.data.scenes import Scene, compose

_SPLIT_KEY: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


class Cutouts(Dataset[Batch]):
    """Scenes of one split, composed on access.

    Args:
        split: ``train``, ``val`` or ``test``.
        objects: Cut-outs, RGBA.
        photographs: Backgrounds, RGB.
        indices: Indices of the scenes in the endless sequence of the split.
        seed: Seed of the scenes.
        image_size: Height and width of a scene in pixels.
        number: Fewest and most objects in a scene.

    Attributes:
        groups: Group number of each cut-out, shared by its variants; None if not known.
        classes: Class that a classifier gives each object of the scenes, -1 for none,
            (scenes, most objects) int64; None if no classifier was used.
    """

    groups: Sequence[int] | None = None
    classes: Tensor | None = None

    def __init__(
        self,
        split: Split,
        objects: Sequence[Image.Image],
        photographs: Sequence[Image.Image],
        indices: Sequence[int],
        *,
        seed: int,
        image_size: int,
        number: tuple[int, int],
    ) -> None:
        self.split = split
        self.objects = objects
        self.photographs = photographs
        self.indices = indices
        self.seed = seed
        self.image_size = image_size
        self.number = number

    def __len__(self) -> int:
        return len(self.indices)

    def scene(self, index: int) -> Scene:
        """Compose the scene at an index of the endless sequence of the split."""
        rng, which = self._draw(index)
        photograph = self.photographs[int(rng.integers(len(self.photographs)))]
        objects = [self.objects[place] for place in which]
        return compose(objects, photograph, image_size=self.image_size, rng=rng)

    def _draw(self, index: int) -> tuple[np.random.Generator, list[int]]:
        """Random generator of a scene, and the indices of its cut-outs."""
        rng = np.random.default_rng((self.seed, _SPLIT_KEY[self.split], index))
        low, high = self.number
        number = int(rng.integers(low, high + 1))
        which = rng.choice(len(self.objects), number, replace=number > len(self.objects))
        return rng, which.tolist()

    def __getitem__(self, index: int) -> Batch:
        scene = self.scene(self.indices[index])
        masks = torch.zeros(self.number[1], self.image_size, self.image_size, dtype=torch.bool)
        masks[: len(scene.masks)] = torch.from_numpy(scene.masks)
        item: Batch = {
            "image": torch.from_numpy(scene.image.copy()).permute(2, 0, 1),
            "index": torch.tensor(index),
            "mask": masks.any(0),
            "object_masks": masks,
        }
        if self.groups is not None:
            shown = [self.groups[place] for place in self._draw(self.indices[index])[1]]
            none = [-1] * (self.number[1] - len(shown))
            item["object_groups"] = torch.tensor(shown + none)
            item["group"] = item["object_groups"][0]  # of the farthest object
        if self.classes is not None:
            item["object_classes"] = self.classes[index]
        return item

    def name(self, index: int) -> str:
        """Name a scene by its index in the split."""
        return f"{self.split} scene {self.indices[index]}"
