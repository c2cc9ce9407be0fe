"""The images to evaluate on, none of which the explainer was trained on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from saliency_vae.data import Batch, ImageFiles, Preprocessing, collate, too_many_broken
from saliency_vae.data.datamodule import SaliencyDataModule

_SPLIT = ("seed", "validation_fraction")  # what decides which images of a directory are held out


def evaluation_images(
    data: SaliencyDataModule,
    preprocessing: Preprocessing,
    limit: int | None,
    *,
    left_out: list[str],
    num_workers: int = 0,
    seed: int = 0,
) -> Dataset[Batch]:
    """Test images of a data module, or its validation images where it has no others.

    Image files come in random order: the first of a tree, which is sorted, are of a few classes.

    Args:
        data: Not set up yet.
        preprocessing: That the classifier expects.
        limit: Number of images, the first in their order; None for all.
        left_out: Is told which image files are broken: none of them is among the images.
        num_workers: Processes that read the files to find these.
        seed: Of the files' order.

    Raises:
        ValueError: If limit is not positive, or too many files are broken.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"Expected limit >= 1 image. Found {limit}.")
    data.preprocessing = preprocessing
    data.setup("test" if data.has_test_set else "validate")
    images = data.test_set if data.has_test_set else data.val_set
    if isinstance(images, ImageFiles):
        images, broken = _readable(_shuffled(images, seed), limit, num_workers)
        left_out += [f"An image file that cannot be read: {file}" for file in broken]
        return images
    return images if limit is None else first(images, limit)


def _shuffled(files: ImageFiles, seed: int) -> ImageFiles:
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    paths = [files.paths[place] for place in order]
    return ImageFiles(paths, files.preprocess, files.max_broken)


def _readable(
    files: ImageFiles, limit: int | None, num_workers: int
) -> tuple[ImageFiles, list[str]]:
    """First files that can be read, and what those before them that cannot are."""
    paths, broken = [], []
    loader = DataLoader(files, batch_size=None, num_workers=num_workers)
    for place, item in enumerate(tqdm(loader, "Reading images", leave=False)):
        if not item["skipped"]:
            paths.append(files.paths[place])
        elif isinstance(why := files.read(place), str):
            broken.append(why)
        if len(broken) > files.max_broken:
            raise too_many_broken(broken, files.max_broken)
        if len(paths) == limit:
            break
    return ImageFiles(paths, files.preprocess), broken


def first(images: Dataset[Batch], number: int) -> Dataset[Batch]:
    """First images of a data set, or all if there are fewer."""
    return Subset(images, range(min(number, len(images))))  # type: ignore[arg-type]  # Dataset promises no length


@dataclass(frozen=True)
class Images:
    """Images as methods take them, always in the same order: batches of float in [0, 1].

    Attributes:
        dataset: Of uint8 images, with true masks if they are known.
        name: Says which images.
        batch_size: Images at once.
        num_workers: Processes that read images.
        device: Where to.
    """

    dataset: Dataset[Batch]
    name: str
    batch_size: int
    num_workers: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # Dataset promises no length

    def __iter__(self) -> Iterator[Batch]:
        loader = DataLoader(
            self.dataset,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=collate,
        )
        for batch in loader:
            moved: Batch = {"image": batch["image"].to(self.device).float() / 255}
            if "mask" in batch:
                moved["mask"] = batch["mask"].to(self.device)
            yield moved

    def first(self, number: int) -> "Images":
        """First images, or all if there are fewer."""
        return replace(self, dataset=first(self.dataset, number))

    def as_batch(self) -> Batch:
        """All images in one batch."""
        return next(iter(replace(self, batch_size=len(self), num_workers=0)))


def check_split(data: dict[str, Any], trained: dict[str, Any] | None) -> None:
    """Refuse to hold out other images of a directory than training did.

    Args:
        data: Hydra node of the data to evaluate on.
        trained: That of the training, if it is known.

    Raises:
        ValueError: If images of the training would be evaluated.
    """
    if trained is None or "validation_fraction" not in data or not _same_directory(data, trained):
        return
    differing = [key for key in _SPLIT if data[key] != trained.get(key)]
    if differing:
        expected = " ".join(f"data.{key}={trained.get(key)}" for key in differing)
        found = " ".join(f"data.{key}={data[key]}" for key in differing)
        raise ValueError(
            f"Expected {expected}, as in training: else images of the training would be "
            f"evaluated. Found {found}."
        )


def _same_directory(data: dict[str, Any], trained: dict[str, Any]) -> bool:
    roots = [node.get("root") for node in (data, trained)]
    if None in roots:
        return False
    here, there = (Path(str(root)).resolve() for root in roots)
    return data["_target_"] == trained.get("_target_") and here == there
