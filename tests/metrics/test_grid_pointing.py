"""Scores of regions against plain loops, and toys whose answers are known."""

from statistics import median_low

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saliency_vae.metrics.grid_pointing import (
    has_most,
    positive_attribution,
    region_shares,
    top_shares,
)

few = settings(deadline=None, max_examples=40, derandomize=True)
sizes = st.integers(1, 4)  # half of a side


def cells(batch: int, height: int, width: int) -> Tensor:
    """Four cells of 2 height x 2 width pixels, in reading order."""
    masks = torch.zeros(batch, 4, 2 * height, 2 * width, dtype=torch.bool)
    for cell in range(4):
        top, left = cell // 2 * height, cell % 2 * width
        masks[:, cell, top : top + height, left : left + width] = True
    return masks


def maps(batch: int, height: int, width: int, seed: int) -> Tensor:
    """Maps with many ties and negative values."""
    noise = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, (batch, 2 * height, 2 * width), generator=noise).float()


@few
@given(batch=st.integers(1, 3), height=sizes, width=sizes, seed=st.integers(0, 999))
def test_shares_equal_loops(batch: int, height: int, width: int, seed: int) -> None:
    saliency, regions = maps(batch, height, width, seed), cells(batch, height, width)
    for neutral in (False, True):
        attribution = positive_attribution(saliency, zero_is_neutral=neutral)
        shares = region_shares(attribution, regions)
        for one, masks, found, hits in zip(
            saliency, regions, shares.tolist(), has_most(shares).tolist(), strict=True
        ):
            values = one.flatten().tolist()
            zero = 0 if neutral else median_low(values)
            inside = [mask.flatten().tolist() for mask in masks]
            sums = [
                sum(max(0, v - zero) for v, hit in zip(values, cell, strict=True) if hit)
                for cell in inside
            ]
            total = sum(sums)
            assert found == pytest.approx([s / total if total else 0.25 for s in sums])
            winners = [s == max(sums) for s in sums]
            assert hits == pytest.approx([won / sum(winners) for won in winners])


@few
@given(
    height=sizes,
    width=sizes,
    fraction=st.floats(0.01, 1),
    ties=st.booleans(),
    seed=st.integers(0, 99),
)
def test_top_shares_are_the_mean_over_the_ways_to_break_ties(
    height: int, width: int, fraction: float, ties: bool, seed: int
) -> None:
    saliency, regions = maps(1, height, width, seed), cells(1, height, width)
    if not ties:
        order = torch.randperm(saliency.numel(), generator=torch.Generator().manual_seed(seed))
        saliency = order.view_as(saliency).float()
    pixels = saliency.numel()
    kept = max(1, round(fraction * pixels))
    ordered = sorted(saliency.flatten().tolist(), reverse=True)
    least = ordered[kept - 1]
    left = kept - sum(value > least for value in ordered)  # places for pixels on the level
    expected = []
    for mask in regions[0]:
        inside = saliency[0][mask].tolist()
        certain = sum(value > least for value in inside)
        likely = sum(value == least for value in inside) * left / ordered.count(least)
        expected.append((certain + likely) / kept)
    assert top_shares(saliency, regions, fraction)[0].tolist() == pytest.approx(expected)


def test_a_map_of_one_cell_scores_one_there_and_nothing_elsewhere() -> None:
    regions = cells(4, 3, 5)
    saliency = regions[torch.arange(4), torch.arange(4)].float()
    attribution = positive_attribution(saliency)
    for shares in (
        region_shares(attribution, regions),
        top_shares(saliency, regions),
        has_most(region_shares(attribution, regions)),
    ):
        assert torch.equal(shares, torch.eye(4))


@pytest.mark.parametrize("value", [-2.0, 0.0, 7.0])
def test_a_constant_map_scores_chance(value: float) -> None:
    regions, saliency = cells(2, 3, 5), torch.full((2, 6, 10), value)
    shares = region_shares(positive_attribution(saliency), regions)
    for found in (shares, top_shares(saliency, regions), has_most(shares)):
        assert torch.allclose(found, torch.full((2, 4), 0.25))


def test_a_map_that_is_zero_almost_everywhere_gives_the_first_cells_no_bonus() -> None:
    """Ties in reading order would fill the upper cells."""
    saliency, regions = torch.zeros(1, 20, 20), cells(1, 10, 10)
    saliency[0, 15, 15] = 1.0
    found = top_shares(saliency, regions, 0.1)[0]
    assert found[:3].tolist() == pytest.approx([found[0].item()] * 3, rel=0.02)
    assert found[3] > found[0]


def test_the_median_takes_away_what_is_everywhere() -> None:
    saliency, regions = torch.full((1, 6, 10), 5.0), cells(1, 3, 5)
    saliency[0, :3, :5] = 6.0
    assert float(region_shares(positive_attribution(saliency), regions)[0, 0]) == 1.0
    raw = positive_attribution(saliency, zero_is_neutral=True)
    assert float(region_shares(raw, regions)[0, 0]) == pytest.approx(6 / 21)


def test_negative_values_count_for_nothing_where_zero_is_neutral() -> None:
    saliency, regions = torch.full((1, 6, 10), -5.0), cells(1, 3, 5)
    saliency[0, :2] = -1.0  # above the median, yet it speaks against the class
    saliency[0, 5, 9] = 2.0
    attribution = positive_attribution(saliency, zero_is_neutral=True)
    assert region_shares(attribution, regions)[0].tolist() == [0, 0, 0, 1]
    assert region_shares(positive_attribution(saliency), regions)[0, 0] > 0


def test_regions_may_leave_pixels_out() -> None:
    regions = torch.tensor([[[[True, False, False]], [[False, True, False]]]])
    attribution = torch.tensor([[[1.0, 3.0, 96.0]]])
    assert region_shares(attribution, regions).tolist() == [[0.25, 0.75]]
