"""Photographs of a person's own: what errors call them."""

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from saliency_vae.data import OwnData
from saliency_vae.data.image_name import image_name
from tests.helpers.numbered_images import SQUARE


def test_an_image_is_called_by_its_number_among_all_that_were_given() -> None:
    images = [np.zeros((20, 20, 3), dtype=np.uint8) for _ in range(6)]
    images[3] = np.full((20, 20, 3), 255.0)
    part: Subset[object] = Subset(Subset(images, [5, 3, 1, 0]), [3, 1])  # type: ignore[arg-type]  # no data set
    data = OwnData(part, images)
    data.preprocessing = SQUARE
    data.setup("fit")
    assert data.train_set[0]["image"].shape == (3, 16, 16)
    with pytest.raises(ValueError, match=r"Expected image 3 in \[0, 1\]"):
        data.train_set[1]
    assert image_name(data.train_set, 1) == "image 3 of the data set"
    assert image_name(data.val_set, 4) == "image 4 of the data set"
    assert torch.equal(data.val_set[4]["index"], torch.tensor(4))
