"""A user's own images in Python, in any form, as training data."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset, Subset

from saliency_vae.data.batch import Batch
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.picture import as_picture
from saliency_vae.data.preprocessing import Preprocessing


class Photographs(Protocol):
    """A sequence or a map-style data set of photographs in any form, see :func:`as_picture`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class OwnImages(Dataset[Batch]):
    """Photographs as the classifier sees them.

    Args:
        photographs: Photographs. An item may also be a tuple or list whose first element is the
            photograph, such as (image, label), or a dictionary with the key ``image``.
        preprocessing: Preprocessing of the classifier.
    """

    def __init__(self, photographs: Photographs, preprocessing: Preprocessing) -> None:
        self.photographs = photographs
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> Batch:
        item = self.photographs[index]
        if isinstance(item, Mapping):
            item = item.get("image", item)
        photograph = item[0] if isinstance(item, tuple | list) else item
        picture = as_picture(photograph, f"image {self._number(index)}")
        return {"image": self.preprocessing(picture), "index": torch.tensor(index)}

    def name(self, index: int) -> str:
        """Name a photograph by its number in the whole data set."""
        return f"image {self._number(index)} of the data set"

    def _number(self, index: int) -> int:
        """Number of a photograph in the whole data set, of which these may be a ``Subset``."""
        photographs: Any = self.photographs
        while isinstance(photographs, Subset):
            index, photographs = photographs.indices[index], photographs.dataset
        return index


class OwnData(SaliencyDataModule):
    """Data module of photographs to train on and photographs to validate on.

    Args:
        train: Photographs to train on, see :class:`OwnImages`.
        val: Photographs to validate on.
        batch_size: Images of a step, over all devices and accumulated batches.
        num_workers: Number of loader processes for each device.
        seed: Seed of the shuffling.

    Raises:
        ValueError: If there is no image, or the number of loader processes is negative.
    """

    def __init__(
        self,
        train: Photographs,
        val: Photographs,
        *,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if not len(train) or not len(val):
            raise ValueError(
                "Expected at least one image to train on and one to validate on. "
                f"Found {len(train)} and {len(val)}."
            )
        self.train, self.val = train, val

    def setup(self, stage: str) -> None:
        """Make the data sets with the classifier's preprocessing."""
        self.train_set = OwnImages(self.train, self.preprocessing)
        self.val_set = OwnImages(self.val, self.preprocessing)
