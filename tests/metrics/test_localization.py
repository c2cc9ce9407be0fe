"""Localisation metrics against plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saliency_vae.metrics.localization import (
    mask_iou,
    pointing_game,
    relevance_mass,
    relevance_rank,
)
from tests.helpers import reference

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
    assert hits.dtype == torch.float32
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


def test_of_equal_pixels_the_first_in_reading_order_are_taken() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, :2, :2] = mask[1, 1:3, 1:3] = True  # the first row has two pixels of one, and none
    assert mask_iou(torch.zeros(2, 4, 4), mask).tolist() == pytest.approx([2 / 6, 0])


def test_pixels_that_tie_divide_the_hit() -> None:
    saliency = torch.zeros(3, 4, 4)
    saliency[0, 1:3, 1:3] = saliency[1, 0] = 1
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:, :, 0] = mask[0, 1, 1] = True
    assert pointing_game(saliency, mask).tolist() == [0.25, 0.25, 0.25]
    assert pointing_game(saliency, mask, 1).tolist() == [0.75, 0.5, 0.5]


def test_order_alone_matters() -> None:
    saliency, mask = draw(3, 6, 7, 0.3, 0)
    stretched = (saliency / 10).exp()
    assert torch.equal(mask_iou(saliency, mask), mask_iou(stretched, mask))
    assert torch.equal(pointing_game(saliency, mask), pointing_game(stretched, mask))


def nearest(saliency: Tensor, mask: Tensor) -> float:
    """Distance of the mask (H, W) from the largest entry, over all pairs."""
    best = divmod(int(saliency.argmax()), saliency.shape[1])
    return min(math.dist(best, pixel) for pixel in mask.nonzero().tolist())


@few
@given(height=sizes, width=sizes, share=st.floats(0, 0.3), seed=st.integers(0, 999))
def test_tolerance_is_a_euclidean_distance(
    height: int, width: int, share: float, seed: int
) -> None:
    saliency, mask = draw(4, height, width, share, seed)
    distances = [nearest(s, m) for s, m in zip(saliency, mask, strict=True)]
    for tolerance in (0.0, 1.0, 1.5, 3.0, 15.0, *(distance + 1e-9 for distance in distances)):
        hits = pointing_game(saliency, mask, tolerance).tolist()
        assert hits == [distance <= tolerance for distance in distances]


def test_fifteen_pixels_at_224() -> None:
    saliency, mask = torch.zeros(3, 224, 224), torch.zeros(3, 224, 224, dtype=torch.bool)
    saliency[:, 100, 100] = 1
    mask[0, 109, 112] = mask[1, 110, 112] = mask[2, 100, 115] = True  # 15, 15.6 and 15 away
    assert pointing_game(saliency, mask, 15).tolist() == [True, False, True]
    assert not pointing_game(saliency, mask).any()
    assert not pointing_game(saliency, torch.zeros_like(mask), 500).any()


@few
@given(height=sizes, width=sizes, share=st.floats(0, 1), seed=st.integers(0, 999))
def test_relevance_equals_loops(height: int, width: int, share: float, seed: int) -> None:
    saliency, mask = draw(4, height, width, share, seed)
    mass, rank = relevance_mass(saliency, mask).tolist(), relevance_rank(saliency, mask).tolist()
    for i, (s, m) in enumerate(zip(saliency, mask, strict=True)):
        values, inside = s.flatten().tolist(), m.flatten().tolist()
        pairs = sorted(zip(values, inside, strict=True), reverse=True)
        positive = sum(value for value in values if value > 0)
        within = sum(value for value, hit in pairs if hit and value > 0)
        assert mass[i] == pytest.approx(within / positive if positive else 0)
        top = [hit for _, hit in pairs[: sum(inside)]]
        assert rank[i] == pytest.approx(sum(top) / sum(inside))


def test_truth_scores_one_and_its_opposite_nothing() -> None:
    _, mask = draw(3, 6, 7, 0.3, 0)
    truth = mask.float()
    for score in (pointing_game, mask_iou, relevance_mass, relevance_rank):
        assert score(truth, mask).tolist() == [1, 1, 1]
    assert relevance_mass(1 - truth, mask).tolist() == [0, 0, 0]
    assert relevance_mass(-truth, mask).tolist() == [0, 0, 0]
