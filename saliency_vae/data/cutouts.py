"""Cut-outs of objects on photographs: real images whose objects, and their masks, are known.

Every image is a function of (seed, split, index) alone, and the splits share neither objects nor
photographs.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.data.batch import Batch
from saliency_vae.data.datamodule import Predict, SaliencyDataModule
from saliency_vae.data.image_finder import list_images
from saliency_vae.data.image_reader import load_rgb, opened
from saliency_vae.data.scenes import OPAQUE, Scene, compose

Pixels = NDArray[np.uint8]  # (H, W, 3)
Split = Literal["train", "val", "test"]
GROUPS = "groups.txt"  # lines "path group", paths relative to the file
PORTIONS = 3  # of the test objects and photographs, each looked at once
_SHARES = {"train": 0.55, "val": 0.15}  # of the groups; the rest is for the test
_SPLIT_KEY: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_CONFIDENT = 0.5  # probability of a class with its object, at least
_UNAWARE = 0.1  # probability of the same class without it, at most
_SIZES: dict[Split, int] = {"train": 3600, "val": 300, "test": 200}  # images by default
_TRIED = 20  # scenes for each that is wanted, at most
_LEAST_OPAQUE = 0.15  # share of a cut-out's box


def groups_of(directory: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Name the group of each file: variants of one thing, which belong into one split.

    ``groups.txt`` in the directory, or beside it, names them; each other file is by itself.
    """
    whole = Path(os.path.abspath(directory))  # noqa: PTH100 (resolve would follow a link)
    named: dict[Path, str] = {}
    for place in (whole, whole.parent):
        if (place / GROUPS).is_file():
            rows = [line.rsplit(maxsplit=1) for line in (place / GROUPS).read_text().splitlines()]
            named = {place / row[0]: row[1] for row in rows if len(row) == 2}
            break
    paths = {file: whole / file.relative_to(directory) for file in files}
    alone = _names([file.relative_to(directory) for file in files if paths[file] not in named])
    return {
        file: named[path] if path in named else alone[file.relative_to(directory)]
        for file, path in paths.items()
    }


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """Names of files: the last part of the path, or all of it where folders share that part."""
    parents: dict[str, set[Path]] = defaultdict(set)
    for file in files:
        parents[file.stem].add(file.parent)
    return {
        file: file.stem if len(parents[file.stem]) == 1 else file.with_suffix("").as_posix()
        for file in files
    }


def files_of(split: Split, directory: Path, *, portion: int = 1) -> list[Path]:
    """Files of a directory that belong to a split, whole groups together.

    The groups are dealt to the splits in the order of a hash of their names.

    Args:
        split: ``train``, ``val`` or ``test``.
        directory: Directory of image files.
        portion: Portion of the test files, from 1 to 3.

    Raises:
        ValueError: If the directory holds no image for the split.
    """
    files = list_images(directory)
    groups = groups_of(directory, files)
    ordered = sorted(set(groups.values()), key=lambda group: sha256(group.encode()).digest())
    chosen = set(_dealt(ordered, split, portion))
    found = [file for file, group in groups.items() if group in chosen]
    if not found:
        raise ValueError(
            f"Expected {directory} to hold images of enough groups for training, validation and "
            f"{PORTIONS} test portions. Found {len(files)} images, none of them for {split}."
        )
    return found


def _dealt(groups: Sequence[str], split: Split, portion: int) -> Sequence[str]:
    """Groups of a split; those of the test are dealt in turn to its portions."""
    train, val = (round(share * len(groups)) for share in accumulate(_SHARES.values()))
    if split == "test":
        return groups[val:][portion - 1 :: PORTIONS]
    return groups[:train] if split == "train" else groups[train:val]


def load_rgba(file: Path) -> Image.Image:
    """Read an image file with its transparency, upright, cropped to what is visible.

    Raises:
        ValueError: If it has no transparency, nothing visible, or cannot be read.
    """
    try:
        with opened(file) as image:
            transparent = image.has_transparency_data
            cutout = ImageOps.exif_transpose(image).convert("RGBA")
    except OSError as error:
        why = error.__cause__ or error
        raise ValueError(f"Expected a cut-out, an image file. Found {file}: {why}.") from None
    if not transparent:
        raise ValueError(f"Expected a cut-out with transparency. Found none in {file}.")
    box = cutout.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"Expected a cut-out of something visible. Found nothing in {file}.")
    return cutout.crop(box)


def is_solid(cutout: Image.Image) -> bool:
    """Whether enough of a cut-out is opaque to be seen in a scene: a fishing rod is not."""
    opaque = np.asarray(cutout.getchannel("A")) >= OPAQUE
    return float(opaque.mean()) >= _LEAST_OPAQUE


class Cutouts(Dataset[Batch]):
    """Scenes of one split, composed when asked for.

    Args:
        split: ``train``, ``val`` or ``test``.
        objects: Cut-outs, RGBA.
        photographs: Backgrounds, RGB.
        indices: Places of the scenes in the endless sequence of the split.
        seed: Seed of the scenes.
        image_size: Height and width of a scene in pixels.
        number: Fewest and most objects in a scene.

    Attributes:
        groups: Number of each cut-out's group, which its variants share; None where not known.
        classes: Class of each object of the scenes by a classifier, -1 where there is none,
            (scenes, most objects) int64; None where no classifier was asked.
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
        """Compose the scene at a place in the endless sequence of the split."""
        rng, which = self._draw(index)
        photograph = self.photographs[int(rng.integers(len(self.photographs)))]
        objects = [self.objects[place] for place in which]
        return compose(objects, photograph, image_size=self.image_size, rng=rng)

    def _draw(self, index: int) -> tuple[np.random.Generator, list[int]]:
        """Random numbers of a scene, and the places of its cut-outs."""
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
        if self.groups is not None:  # of the farthest object
            item["group"] = torch.tensor(self.groups[self._draw(self.indices[index])[1][0]])
        if self.classes is not None:
            item["object_classes"] = self.classes[index]
        return item

    def name(self, index: int) -> str:
        """Name a scene by its place in the split."""
        return f"{self.split} scene {self.indices[index]}"


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


def select(scenes: Cutouts, predict: Predict, number: int, *, batch_size: int = 32) -> Selection:
    """Find the first scenes of a split whose decision rests on their objects.

    Args:
        scenes: Scenes to look at, in the order of their sequence.
        predict: Class probabilities of a classifier.
        number: Number of scenes that are wanted.
        batch_size: Scenes looked at together.

    Raises:
        ValueError: If too few are found among twenty times as many.
    """

    def accept(composed: Sequence[Scene]) -> Tensor:
        return _resting([s.image for s in composed], [s.empty for s in composed], predict) >= 0

    indices, tried = _search(scenes, accept, number, batch_size)
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


def select_pairs(
    scenes: Cutouts, predict: Predict, number: int, *, batch_size: int = 32
) -> Selection:
    """Find the first scenes of two objects that each have a class of their own, not the same one.

    Args:
        scenes: Scenes of two objects each, looked at in the order of their sequence.
        predict: Class probabilities of a classifier.
        number: Number of scenes that are wanted. Fewer are returned if twenty times as many do
            not hold them.
        batch_size: Scenes looked at together.
    """

    def accept(composed: Sequence[Scene]) -> Tensor:
        one, other = (
            _resting([s.alone(j) for s in composed], [s.empty for s in composed], predict)
            for j in range(2)
        )
        seen = torch.tensor([bool(s.masks.any((1, 2)).all()) for s in composed])
        return seen & (one >= 0) & (other >= 0) & (one != other)

    indices, tried = _search(scenes, accept, number, batch_size)
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
    scenes: Cutouts, accept: Callable[[Sequence[Scene]], Tensor], number: int, batch_size: int
) -> tuple[list[int], int]:
    """Find the first scenes that are accepted, and count those that were looked at."""
    found: list[int] = []
    tried = 0
    while len(found) < number and tried < _TRIED * number:
        indices = range(tried, tried + batch_size)
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


def _checked_sizes(sizes: Mapping[str, int]) -> dict[Split, int]:
    """Number of images of each split, those that are given and the usual ones of the others."""
    unknown = sorted(sizes.keys() - _SIZES.keys())
    if unknown:
        raise ValueError(f"Expected data.sizes of {', '.join(_SIZES)}. Found {unknown[0]}.")
    checked = {split: sizes.get(split, usual) for split, usual in _SIZES.items()}
    for split, size in checked.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(
                f"Expected data.sizes.{split} >= 1 image, a whole number. Found {size}."
            )
    return checked


class CutoutsData(SaliencyDataModule):
    """Cut-outs of objects on photographs, for training and testing an explainer.

    Args:
        cutouts: Directory of images with transparency, one object each.
        backgrounds: Directory of photographs.
        image_size: Height and width of an image in pixels.
        objects: Fewest and most objects in an image.
        sizes: Number of training, validation and test images.
        test_portion: Portion of the test files, from 1 to 3, each to be looked at once; None to
            leave them unseen and to evaluate on the validation images.
        batch_size: Images a step over all devices and accumulated batches.
        num_workers: Loader processes of each device.
        seed: Seed of the scenes and their order.

    Raises:
        ValueError: If a directory is missing or a number is out of range.
    """

    val_set: Cutouts
    test_set: Cutouts

    def __init__(
        self,
        cutouts: str | None,
        backgrounds: str | None,
        image_size: int = 128,
        objects: tuple[int, int] = (1, 1),
        sizes: Mapping[str, int] | None = None,
        test_portion: int | None = None,
        batch_size: int = 32,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        for name, directory in (("cutouts", cutouts), ("backgrounds", backgrounds)):
            if directory is None or not Path(directory).is_dir():
                raise ValueError(f"Expected data.{name}=DIR, a directory. Found {directory}.")
        low, high = objects
        if not 1 <= low <= high <= 3:
            raise ValueError(f"Expected data.objects=[LOW,HIGH] in 1 to 3. Found {list(objects)}.")
        if image_size < 32:
            raise ValueError(f"Expected data.image_size >= 32 pixels. Found {image_size}.")
        if test_portion is not None and not 1 <= test_portion <= PORTIONS:
            raise ValueError(
                f"Expected data.test_portion in 1 to {PORTIONS}. Found {test_portion}."
            )
        self.directories = Path(str(cutouts)), Path(str(backgrounds))
        self.image_size = image_size
        self.objects = low, high
        self.sizes = _checked_sizes(sizes or {})
        self.test_portion = test_portion
        self.has_test_set = test_portion is not None

    def setup(self, stage: str) -> None:
        """Read the files of the splits that the stage needs."""
        if stage == "fit":
            self.train_set = self.scenes("train")
        if stage in ("fit", "validate"):
            self.val_set = self.scenes("val")
        if stage == "test":
            self.test_set = self.scenes("test")

    def choose_images(self, predict: Predict, number: int | None) -> str:
        """Keep the images whose decision rests on their objects, see :func:`select`."""
        scenes = self.test_set if self.has_test_set else self.val_set
        most = self.sizes[scenes.split]
        selection = select(scenes, predict, most if number is None else min(number, most))
        scenes.indices, scenes.classes = selection.indices, selection.classes
        return str(selection)

    def two_object_scenes(self, predict: Predict, number: int) -> tuple[Cutouts, str]:
        """Scenes of two objects, each of a class of its own, of the split to evaluate on.

        Args:
            predict: Class probabilities of the classifier.
            number: Number of scenes that are wanted.

        Returns:
            The scenes, fewer than wanted if too few are found, and how they were chosen.
        """
        scenes = copy(self.test_set if self.has_test_set else self.val_set)
        scenes.number = 2, 2
        selection = select_pairs(scenes, predict, number)
        scenes.indices, scenes.classes = selection.indices, selection.classes
        return scenes, str(selection)

    def scenes(self, split: Split) -> Cutouts:
        """Scenes of a split; its files are read once and kept in memory."""
        cutouts, backgrounds = self.directories
        portion = self.test_portion or 1
        files = files_of(split, cutouts, portion=portion)
        objects = {file: load_rgba(file) for file in files}
        solid = {file: cutout for file, cutout in objects.items() if is_solid(cutout)}
        if len(solid) < len(objects):
            thin = len(objects) - len(solid)
            rank_zero_info(f"{thin} of {len(objects)} cut-outs ({split}) are too thin to be seen.")
        if not solid:
            raise ValueError(
                f"Expected cut-outs in {cutouts} that fill at least {_LEAST_OPAQUE:.0%} of their "
                f"box. Found {len(objects)} thinner ones for {split}."
            )
        scenes = Cutouts(
            split,
            list(solid.values()),
            [load_rgb(file) for file in files_of(split, backgrounds, portion=portion)],
            range(self.sizes[split]),
            seed=self.seed,
            image_size=self.image_size,
            number=self.objects,
        )
        groups = groups_of(cutouts, list(solid))
        names = sorted(set(groups.values()))
        scenes.groups = [names.index(groups[file]) for file in solid]
        return scenes
