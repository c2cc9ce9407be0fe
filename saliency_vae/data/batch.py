"""TODO."""

from typing import NotRequired, TypedDict

from torch import Tensor
from torch.utils.data import default_collate


class Batch(TypedDict):
    """One image of a data set, or a batch of them.

    ``image`` is uint8 (3, H, W) from a data set; in the model it is float in [0, 1],
    (B, 3, H, W). ``mask`` marks the pixels that truly decide the class, where known; ``index`` is
    the image's place in its data set, ``skipped`` how many broken files it stands in for.
    """

    image: Tensor
    index: NotRequired[Tensor]
    skipped: NotRequired[Tensor]
    mask: NotRequired[Tensor]
    label: NotRequired[Tensor]


def collate(images: list[Batch]) -> Batch:
    """Stack images to a batch.

    Raises:
        ValueError: If their sizes differ.
    """
    sizes = {tuple(item["image"].shape[-2:]) for item in images}
    if len(sizes) > 1:
        raise ValueError(
            "Expected images of one size after preprocessing: set classifier.resize_size and "
            f"classifier.crop_size. Found {sorted(sizes)}."
        )
    batch: Batch = default_collate(images)
    return batch
