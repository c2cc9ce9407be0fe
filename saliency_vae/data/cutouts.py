"""Data module of cut-outs of objects on photographs."""

from collections.abc import Mapping
from copy import copy
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from saliency_vae.data.cutout_files import (
    LEAST_OPAQUE,
    PORTIONS,
    Split,
    files_of,
    groups_of,
    is_solid,
    load_rgba,
)
from saliency_vae.data.cutout_scenes import Cutouts
from saliency_vae.data.datamodule import Predict, SaliencyDataModule
from saliency_vae.data.image_reader import load_rgb
from saliency_vae.data.scene_selection import select, select_pairs

_SIZES: dict[Split, int] = {"train": 3600, "val": 300, "test": 200}  # images by default


def _checked_sizes(sizes: Mapping[str, int]) -> dict[Split, int]:
    """Check the number of images given for each split, and fill in the defaults."""
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
        test_portion: Portion of the test files, from 1 to 3, each to be evaluated on only once;
            None to leave them untouched and evaluate on the validation images.
        batch_size: Images of a step, over all devices and accumulated batches.
        num_workers: Number of loader processes for each device.
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
        """Keep the images in which the decision depends on the objects, see :func:`select`."""
        scenes = self.test_set if self.has_test_set else self.val_set
        most = self.sizes[scenes.split]
        selection = select(scenes, predict, most if number is None else min(number, most))
        scenes.indices, scenes.classes = selection.indices, selection.classes
        return str(selection)

    def two_object_scenes(self, predict: Predict, number: int) -> tuple[Cutouts, str]:
        """Find scenes of two objects of different classes, in the split to evaluate on.

        Args:
            predict: Function that returns the classifier's class probabilities.
            number: Number of scenes wanted.

        Returns:
            The scenes, fewer than wanted if too few are found, and how they were chosen.
        """
        scenes = copy(self.test_set if self.has_test_set else self.val_set)
        scenes.number = 2, 2
        selection = select_pairs(scenes, predict, number)
        scenes.indices, scenes.classes = selection.indices, selection.classes
        return scenes, str(selection)

    def scenes(self, split: Split) -> Cutouts:
        """Make the scenes of a split; its files are read once and kept in memory."""
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
                f"Expected cut-outs in {cutouts} that fill at least {LEAST_OPAQUE:.0%} of their "
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
