"""The images to evaluate on, none of which the explainer was trained on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from saliency_vae.data import Batch, ImageFiles, Preprocessing, collate, too_many_broken
from saliency_vae.data.annotated_images import AnnotatedImages
from saliency_vae.data.datamodule import Predict, SaliencyDataModule
from saliency_vae.runtime.device import loader_processes

_Known = Literal["mask", "object_masks", "object_classes", "object_groups", "group"]
_KNOWN: tuple[_Known, ...] = get_args(_Known)  # copied from the data, if present
# Settings that decide which images of a directory are held out.
_SPLIT = ("seed", "validation_fraction")


def evaluation_images(
    data: SaliencyDataModule,
    preprocessing: Preprocessing,
    limit: int | None,
    *,
    num_workers: int = 0,
    seed: int = 0,
    predict: Predict | None = None,
) -> tuple[Dataset[Batch], tuple[str, ...]]:
    """Test images of a data module, or its validation images if it has no test images.

    Image files are shuffled, because the first ones of a sorted tree belong to a few classes.

    Args:
        data: Data module that is not set up yet.
        preprocessing: Preprocessing that the classifier expects.
        limit: Number of images, taken from the start; None for all.
        num_workers: Processes that read the files to find the broken ones.
        seed: Seed of the order of image files.
        predict: Function that returns class probabilities, for data that select images by them.

    Returns:
        The images, and notes: one sentence for each broken image file, which is left out, or on
        how the images were chosen.

    Raises:
        ValueError: If limit is not positive, or too many files are broken.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"Expected limit >= 1 image. Found {limit}.")
    data.preprocessing = preprocessing
    data.setup("test" if data.has_test_set else "validate")
    chosen = data.choose_images(predict, limit) if predict is not None else ""
    images = data.test_set if data.has_test_set else data.val_set
    if isinstance(images, ImageFiles):
        files, broken = _readable(_shuffled(images, seed), limit, num_workers)
        return files, tuple(f"An image file that cannot be read: {file}" for file in broken)
    notes = (f"Images that the classifier cannot be judged by. Kept: {chosen}.",) if chosen else ()
    return (images if limit is None else first(images, limit)), notes


def _shuffled(files: ImageFiles, seed: int) -> ImageFiles:
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    paths = [files.paths[place] for place in order]
    return ImageFiles(paths, files.preprocess, files.max_broken)


def _readable(
    files: ImageFiles, limit: int | None, num_workers: int
) -> tuple[ImageFiles, list[str]]:
    """Find the first files that can be read, and describe the broken ones before them."""
    paths, broken = [], []
    loader = DataLoader(files, batch_size=None, num_workers=loader_processes(num_workers))
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


def with_boxes(
    images: Dataset[Batch], annotations: Path, preprocessing: Preprocessing
) -> tuple[Dataset[Batch], tuple[str, ...]]:
    """Add true masks to image files, made from annotated bounding boxes.

    Args:
        images: Image files.
        annotations: Directory of ILSVRC's XML boxes.
        preprocessing: Preprocessing of the images.

    Returns:
        The images with true masks, and one sentence for each reason why others are left out.
    """
    boxed = AnnotatedImages(images, annotations, preprocessing)
    left_out = []
    if boxed.misfits:
        left_out.append(
            f"{len(boxed.misfits)} images, such as {boxed.misfits[0]}: their size is not the one "
            "that was annotated."
        )
    if boxed.unseen:
        left_out.append(f"{boxed.unseen} images: their boxes lie outside the classifier's view.")
    return boxed, tuple(left_out)


def first(images: Dataset[Batch], number: int) -> Dataset[Batch]:
    """First images of a data set, or all if there are fewer."""
    return Subset(images, range(min(number, len(images))))  # type: ignore[arg-type]  # Dataset promises no length


@dataclass(frozen=True)
class Images:
    """Images in batches of floats in [0, 1], always in the same order.

    Attributes:
        dataset: Images of type uint8, with true masks if they are known.
        name: Description of the images.
        batch_size: Number of images in a batch.
        num_workers: Processes that read images.
        device: Device that the batches are moved to.
        left_out: Missing images or annotations and why, one sentence each.
    """

    dataset: Dataset[Batch]
    name: str
    batch_size: int
    num_workers: int
    device: torch.device
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # Dataset promises no length

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-len(self) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        loader = DataLoader(
            self.dataset,
            batch_size=self.batch_size,
            num_workers=loader_processes(self.num_workers),
            collate_fn=collate,
        )
        for batch in loader:
            moved: Batch = {"image": batch["image"].to(self.device).float() / 255}
            for known in _KNOWN:
                if known in batch:
                    moved[known] = batch[known].to(self.device)
            yield moved

    def first(self, number: int) -> "Images":
        """First images, or all if there are fewer."""
        return replace(self, dataset=first(self.dataset, number))

    def as_batch(self) -> Batch:
        """All images in one batch."""
        return next(iter(replace(self, batch_size=len(self), num_workers=0)))


def check_split(data: dict[str, Any], trained: dict[str, Any] | None) -> None:
    """Reject data whose held-out images differ from those held out in training.

    Args:
        data: Hydra node of the data to evaluate on.
        trained: Hydra node of the training data, possibly with a node for each task; None if
            unknown.

    Raises:
        ValueError: If images that the explainer was trained on would be evaluated.
    """
    for here, there in product(_directories(data), _directories(trained or {})):
        if "validation_fraction" in here and _share_images(here, there):
            _check_same_split(here, there)


def _directories(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the nodes, at any depth, that describe a directory of images."""
    if node.get("root") is not None:
        yield node
    for part in node.values():
        if isinstance(part, Mapping):
            yield from _directories(part)


def _share_images(here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Whether the directories are the same or nested, and read by the same class."""
    first, second = _root(here), _root(there)
    nested = first.is_relative_to(second) or second.is_relative_to(first)
    return nested and here["_target_"] == there.get("_target_")


def _check_same_split(data: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    if _root(data) != _root(trained):  # the split depends on each file's path below root
        raise ValueError(
            f"Expected data.root={trained['root']}, as in training, or a directory apart from it, "
            f"so that no image of the training is evaluated. Found {data['root']}."
        )
    differing = [key for key in _SPLIT if data[key] != trained.get(key)]
    if differing:
        expected = " ".join(f"data.{key}={trained.get(key)}" for key in differing)
        found = " ".join(f"data.{key}={data[key]}" for key in differing)
        raise ValueError(
            f"Expected {expected}, as in training, so that no image of the training is "
            f"evaluated. Found {found}."
        )


def _root(data: Mapping[str, Any]) -> Path:
    return Path(str(data["root"])).resolve()
