"""Maps are brought back to where the classifier looked, held against torchvision's own steps."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from saliency_vae.data.preprocessing import Preprocessing

CASES = [
    (Preprocessing(64, (56, 56)), (100, 180)),  # landscape
    (Preprocessing(64, (56, 48)), (180, 101)),  # portrait
    (Preprocessing(64, (57, 57)), (75, 75)),
    (Preprocessing((64, 64), (64, 64)), (90, 130)),  # squashed
    (Preprocessing((70, 66), (64, 61)), (90, 131)),
    (Preprocessing(64), (90, 130)),  # no crop
    (Preprocessing(None, (32, 33)), (50, 41)),  # no resizing
    (Preprocessing(None, (64, 64)), (51, 70)),  # padded and cut
    (Preprocessing(None, (64, 64)), (49, 47)),  # padded
    (Preprocessing(), (31, 45)),
    (Preprocessing(96, (90, 90)), (30, 40)),  # enlarged
    (Preprocessing(32, (32, 32)), (1, 1)),
    (Preprocessing(32, (32, 32)), (2, 300)),
]


def ramp(height: int, width: int) -> Image.Image:
    """Image whose red is the place across and whose green is the place down, in [0, 255]."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def crop_starts(resized: tuple[int, int], crop: tuple[int, int]) -> list[int]:
    """First row and column of torchvision's centre crop; negative where it pads."""
    index = torch.arange(1, 1 + math.prod(resized)).view(1, *resized)
    cropped = F.center_crop(index, list(crop))[0]
    y, x = (cropped > 0).nonzero()[0].tolist()
    first = int(cropped[y, x]) - 1
    return [first // resized[1] - y, first % resized[1] - x]


def slowly_restored(preprocessing: Preprocessing, values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of a map (h, w), one pixel of the original after another."""
    whole = Image.new("L", size[::-1])
    if preprocessing.resize_size is not None:
        sides = preprocessing.resize_size
        whole = F.resize(whole, [sides] if isinstance(sides, int) else list(sides))
    resized = whole.height, whole.width
    top, left = crop_starts(resized, (values.shape[0], values.shape[1]))
    result = torch.full(size, float("nan"))
    for i in range(size[0]):
        for j in range(size[1]):
            y = (i + 0.5) * resized[0] / size[0] - top
            x = (j + 0.5) * resized[1] / size[1] - left
            if 0 <= y <= values.shape[0] and 0 <= x <= values.shape[1]:
                result[i, j] = slowly_interpolated(values, y - 0.5, x - 0.5)
    return result


def slowly_interpolated(values: Tensor, y: float, x: float) -> float:
    height, width = values.shape
    total = 0.0
    for row in range(math.floor(y), math.floor(y) + 2):
        for column in range(math.floor(x), math.floor(x) + 2):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            inside = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
            total += weight * float(values[inside])
    return total


@pytest.mark.parametrize(("preprocessing", "size"), CASES)
def test_restore_is_bilinear_interpolation_pixel_by_pixel(
    preprocessing: Preprocessing, size: tuple[int, int]
) -> None:
    shape = preprocessing(ramp(*size)).shape[-2:]
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    restored = preprocessing.restore(values, size)
    assert restored.dtype == torch.float32
    expected = slowly_restored(preprocessing, values, size)
    torch.testing.assert_close(restored, expected, equal_nan=True, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("preprocessing", "size"), CASES[:-2])
def test_a_ramp_comes_back(preprocessing: Preprocessing, size: tuple[int, int]) -> None:
    """What is seen at a place of the preprocessed image is put back where it was."""
    original = torch.from_numpy(np.array(ramp(*size))).permute(2, 0, 1).float()
    restored = preprocessing.restore(preprocessing(ramp(*size)).float(), size)
    known = restored.isfinite()
    error = (restored - original).abs()[:2]
    steps = max(255 / (side - 1) for side in size)  # from one pixel to the next
    assert error[known[:2]].max() < 1 + 0.75 * steps  # the ramp bends at the image's borders
    assert error[known[:2]].median() < 1
    seen = known[0].sum() / known[0].numel()
    assert seen > 0.3


@pytest.mark.parametrize(("preprocessing", "size"), CASES)
def test_the_size_before_the_crop_is_torchvisions(
    preprocessing: Preprocessing, size: tuple[int, int]
) -> None:
    whole = Preprocessing(preprocessing.resize_size)(ramp(*size))
    assert preprocessing.resized(*size) == tuple(whole.shape[-2:])


def test_sizes_are_checked_and_a_square_crop_may_be_given_by_its_side() -> None:
    square: Any = 48
    assert Preprocessing(crop_size=square) == Preprocessing(crop_size=(48, 48))
    for wrong in ({"crop_size": (0, 8)}, {"resize_size": 64.5}, {"resize_size": -1}):
        with pytest.raises(ValueError, match="of whole numbers > 0"):
            Preprocessing(**wrong)


def test_without_resizing_nothing_changes() -> None:
    maps = torch.randn(2, 3, 31, 45)
    assert torch.equal(Preprocessing().restore(maps, (31, 45)), maps)
    middle = Preprocessing(None, (11, 15)).restore(maps[..., 10:21, 15:30], (31, 45))
    assert torch.equal(middle[..., 10:21, 15:30], maps[..., 10:21, 15:30])
    assert int(middle.isfinite().sum()) == 2 * 3 * 11 * 15


def test_restore_at_another_size_than_the_files() -> None:
    preprocessing = Preprocessing(32, (32, 32))
    values = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    small = preprocessing.restore(values, (640, 1280), at=(64, 128))
    torch.testing.assert_close(small, preprocessing.restore(values, (64, 128)), equal_nan=True)
    assert small[:, :32].isnan().all()
    assert small[:, 32:96].isfinite().all()
    assert small[:, 96:].isnan().all()


def test_a_strip_that_would_fill_the_memory_is_refused() -> None:
    strip = Image.new("RGB", (60_000, 1))
    with pytest.raises(ValueError, match=r"pixels after resizing.*1 x 60000"):
        Preprocessing(256, (224, 224))(strip)
