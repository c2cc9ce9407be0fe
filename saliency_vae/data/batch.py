"""Batches of images: their type, stacking single images, and slicing."""

from typing import NotRequired, TypedDict, cast

from torch import Tensor
from torch.utils.data import default_collate


class Batch(TypedDict):
    """One image of a data set, or a batch, whose tensors have a leading batch dimension (B,).

    Attributes:
        image: Image, (3, H, W): uint8 in a data set, float in [0, 1] in the model.
        index: Index of the image in its data set.
        skipped: Number of broken files just before this image that it replaces.
        mask: True mask, (H, W) bool: the pixels that determine the class, if known.
        object_masks: Mask of each object, (n, H, W) bool; all False where there is no object.
        object_classes: Class that the classifier gives each object, (n,) int64; -1 for none.
        object_groups: Group number of each object, (n,) int64, see ``group``; -1 for none.
        group: Number of the group that the image belongs to, such as photographs of one object.
        label: Class of the image.
        task: Number of the task of the whole batch, if there are several tasks.
        decision: The classifier's decision, if already known: weights of the logits, (classes,).
        target: Target to explain instead of the decision: weights of the logits, (classes,).
    """

    image: Tensor
    index: NotRequired[Tensor]
    skipped: NotRequired[Tensor]
    mask: NotRequired[Tensor]
    object_masks: NotRequired[Tensor]
    object_classes: NotRequired[Tensor]
    object_groups: NotRequired[Tensor]
    group: NotRequired[Tensor]
    label: NotRequired[Tensor]
    task: NotRequired[int]
    decision: NotRequired[Tensor]
    target: NotRequired[Tensor]


def collate(images: list[Batch]) -> Batch:
    """Stack images into a batch.

    Args:
        images: Images of a data set, all of one size and with the same keys.

    Raises:
        ValueError: If the sizes differ.
    """
    sizes = {tuple(item["image"].shape[-2:]) for item in images}
    if len(sizes) > 1:
        raise ValueError(
            "Expected images of one size after preprocessing: set classifier.resize_size and "
            f"classifier.crop_size. Found {sorted(sizes)}."
        )
    batch: Batch = default_collate(images)
    if "task" in batch:  # a plain int, so that reading it does not wait for the device
        batch["task"] = images[0]["task"]
    return batch


def rows(batch: Batch, part: slice) -> Batch:
    """Slice a batch: some of its images, with all their values.

    Args:
        batch: Batch of images.
        part: Slice of the batch dimension.

    Example:
        >>> import torch
        >>> batch: Batch = {"image": torch.rand(5, 3, 2, 2), "label": torch.arange(5)}
        >>> rows(batch, slice(1, 3))["label"]
        tensor([1, 2])
    """
    taken = {
        key: values[part] if isinstance(values, Tensor) else values for key, values in batch.items()
    }
    return cast("Batch", taken)
