"""Localisation metrics against plain loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saliency_vae.metrics.localization import mask_iou, pointing_game
from tests import reference

few = settings(deadline=None, max_examples=40, derandomize=True)
sizes = st.integers(1, 9)


def draw(batch: int, height: int, width: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Maps without ties, and masks with at least one pixel."""
    noise = torch.Generator().manual_seed(seed)
    pixels = height * width
    maps = torch.stack([torch.randperm(pixels, generator=noise) for _ in range(batch)])
    mask = torch.rand(batch, pixels, generator=noise) < share
    mask[:, int(torch.randint(pixels, (1,), generator=noise))] = True
    shape = (batch, height, width)
    return (maps - pixels / 2).view(shape), mask.view(shape)


@few
@given(
    batch=st.integers(1, 5),
    height=sizes,
    width=sizes,
    share=st.floats(0, 1),
    seed=st.integers(0, 999),
)
def test_equals_loops(batch: int, height: int, width: int, share: float, seed: int) -> None:
    saliency, mask = draw(batch, height, width, share, seed)
    pairs = list(zip(saliency, mask, strict=True))
    hits = pointing_game(saliency, mask)
    assert hits.dtype == torch.bool
    assert hits.tolist() == [reference.pointing_game(s, m) for s, m in pairs]
    expected = [reference.mask_iou(s, m) for s, m in pairs]
    assert mask_iou(saliency, mask).tolist() == pytest.approx(expected)


def test_by_hand() -> None:
    saliency = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]).expand(3, 2, 2)
    mask = torch.tensor([[[1, 1], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [1, 1]]]).bool()
    assert pointing_game(saliency, mask).tolist() == [True, False, False]
    assert mask_iou(saliency, mask).tolist() == pytest.approx([1, 1 / 3, 0])


def test_each_mask_takes_its_own_number_of_pixels() -> None:
    saliency = torch.arange(9.0).view(1, 3, 3).expand(2, 3, 3)
    mask = torch.stack([saliency[0] >= 8, saliency[1] >= 3])
    assert mask_iou(saliency, mask).tolist() == [1, 1]


def test_ties_still_take_as_many_pixels() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 1:3, 1:3] = True
    overlap = float(mask_iou(torch.zeros(1, 4, 4), mask))
    assert overlap in [pytest.approx(common / (8 - common)) for common in range(5)]


def test_order_alone_matters() -> None:
    saliency, mask = draw(3, 6, 7, 0.3, 0)
    stretched = (saliency / 10).exp()
    assert torch.equal(mask_iou(saliency, mask), mask_iou(stretched, mask))
    assert torch.equal(pointing_game(saliency, mask), pointing_game(stretched, mask))
