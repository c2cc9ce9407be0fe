"""Choosing alternative explanations among drawn maps, against a slow search."""

import pytest
import torch
from torch import Tensor

from saliency_vae.inference.alternatives import choose_alternatives
from saliency_vae.topk import top_pixels


def slow(mean: Tensor, drawn: Tensor, keeps: Tensor, number: int) -> list[int]:
    sets = [set(kept.flatten().nonzero()[:, 0].tolist()) for kept in drawn]
    taken, chosen = [set(mean.flatten().nonzero()[:, 0].tolist())], list[int]()
    for _ in range(number):
        left = [n for n in range(len(sets)) if n not in chosen]
        best = min(left, key=lambda n: (not keeps[n], max(len(sets[n] & one) for one in taken), n))
        chosen.append(best)
        taken.append(sets[best])
    return chosen


@pytest.mark.parametrize("kept", [0.0, 0.4, 1.0])
def test_the_choice_is_that_of_a_slow_search(kept: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(6, 8, 8, generator=generator)
    drawn = mean[:, None] + torch.randn(6, 12, 8, 8, generator=generator)
    sets = top_pixels(mean, 0.2), top_pixels(drawn, 0.2)
    keeps = torch.rand(6, 12, generator=generator) < kept
    found = choose_alternatives(*sets, keeps, 5)
    assert found.tolist() == [slow(*one, 5) for one in zip(*sets, keeps, strict=True)]


def test_all_may_be_chosen_even_if_all_are_alike() -> None:
    same = torch.ones(1, 3, 2, 2, dtype=torch.bool)
    found = choose_alternatives(same[:, 0], same, torch.zeros(1, 3, dtype=torch.bool), 3)
    assert sorted(found[0].tolist()) == [0, 1, 2]
