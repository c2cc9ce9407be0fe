"""A batch of images, how single images are stacked to one, and how some are taken from it."""

from typing import NotRequired, TypedDict, cast

from torch import Tensor
from torch.utils.data import default_collate


class Batch(TypedDict):
    """One image of a data set, or a batch of them, whose tensors have a leading dimension (B,).

    Attributes:
        image: Image, (3, H, W): uint8 in a data set, float in [0, 1] in the model.
        index: Index of the image in its data set.
        skipped: Number of broken files before it that this image replaces.
        mask: True mask, (H, W) bool: the pixels that decide the class, where they are known.
        object_masks: Masks of several objects, (n, H, W) bool; an empty one stands for no object.
        object_classes: Class of each object by the classifier, (n,) int64; -1 where there is none.
        object_groups: Number of the group of each object, (n,) int64, see group; -1 where there is
            none.
        group: Number of the group that the image belongs to, such as photographs of one thing.
        label: Class of the image.
        task: Number of the task that the whole batch belongs to, where there are several.
        decision: The classifier's decision, where it is at hand: weights of the logits, (classes,).
        target: What is asked about instead of the decision: weights of the logits, (classes,).
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
    """Stack images to a batch.

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
    if "task" in batch:  # a number, which no device has to be asked for
        batch["task"] = images[0]["task"]
    return batch


def rows(batch: Batch, part: slice) -> Batch:
    """Take some images of a batch, with all that is known of them.

    Args:
        batch: Batch of images.
        part: Which of its images.

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
