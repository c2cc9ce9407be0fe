"""Deviations that change a given share of a kept set."""

import pytest
import torch
from torch import Tensor

from saliency_vae.evaluation.uncertainty.changed_pixels import (
    changed_share,
    scaled_to_change,
)
from saliency_vae.topk import top_pixels


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_kept(scores: Tensor, number: int) -> set[int]:
    return set(scores.flatten().argsort(descending=True)[:number].tolist())


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_number_of_changed_pixels_and_the_sets_of_a_slow_search(share: float) -> None:
    mean, deviation, number = maps(12, 10), maps(3, 12, 10, seed=1), 48
    masks = scaled_to_change(mean, top_pixels(mean, 0.4), deviation, share)
    assert masks.sum((1, 2)).tolist() == [number] * 3
    before = slow_kept(mean, number)
    for mask, moves in zip(masks, deviation, strict=True):
        found = set(mask.flatten().nonzero().flatten().tolist())
        assert len(found - before) == round(share * number)
        scales = torch.logspace(-2, 1.5, 3001)
        assert any(slow_kept(mean + scale * moves, number) == found for scale in scales)


def test_few_places_to_vary_change_as_many_pixels_as_they_can() -> None:
    mean, deviation = torch.arange(16.0).view(4, 4), torch.zeros(1, 4, 4)
    deviation[0, 0, :2] = 1.0
    masks = scaled_to_change(mean, top_pixels(mean, 0.5), deviation, 0.5)
    assert changed_share(masks, top_pixels(mean, 0.5)).tolist() == [2 / 8]


def test_no_variance_changes_nothing() -> None:
    mean = maps(6, 6)
    masks = scaled_to_change(mean, top_pixels(mean, 0.5), torch.zeros(2, 6, 6), 0.25)
    assert torch.equal(masks, top_pixels(mean, 0.5).expand(2, 6, 6))
