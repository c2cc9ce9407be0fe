"""Readable names of the images of a data set, such as file names."""

from typing import Any, Protocol, runtime_checkable

from torch.utils.data import Subset


@runtime_checkable
class Named(Protocol):
    """A data set that names its images."""

    def name(self, index: int) -> str:
        """Name of the image at an index, such as its file."""


def image_name(dataset: Any, index: int) -> str:
    """Name an image as its data set does, or by its number if the data set has no names.

    Example:
        >>> image_name([0.5, 0.25], 1)
        'image 1 of the data set'
    """
    if isinstance(dataset, Subset):
        return image_name(dataset.dataset, dataset.indices[index])
    return dataset.name(index) if isinstance(dataset, Named) else f"image {index} of the data set"
