"""Sparsity of maps, and likeness of two sets of maps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor

from saliency_vae.metrics.sanity import similarity
from saliency_vae.metrics.sparsity import gini_index

few = settings(deadline=None, max_examples=40, derandomize=True)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@few
@given(seed=st.integers(0, 999), height=st.integers(1, 6), width=st.integers(1, 6))
def test_gini_is_half_the_relative_mean_difference(seed: int, height: int, width: int) -> None:
    maps = draw(seed, 3, height, width)
    for found, saliency in zip(gini_index(maps).tolist(), maps, strict=True):
        values = saliency.abs().flatten().tolist()
        difference = sum(abs(a - b) for a in values for b in values)
        assert found == pytest.approx(difference / (2 * len(values) * sum(values)), abs=1e-6)


def test_gini_of_known_maps() -> None:
    maps = torch.zeros(3, 5, 4)
    maps[0] = -2
    maps[1, 2, 2] = 0.1
    assert gini_index(maps).tolist() == pytest.approx([0, 1 - 1 / 20, 0])
    assert gini_index(draw(0, 1, 8, 8)) == pytest.approx(gini_index(-9 * draw(0, 1, 8, 8)))


def slow_ssim(first: Tensor, second: Tensor) -> float:
    """Wang et al. 2004 on maps stretched to [0, 1]: 11 x 11 Gaussian windows, mirrored borders."""
    offsets = np.arange(-5, 6)
    row = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(row, row) / row.sum() ** 2
    x, y = (
        np.pad((m - m.min()) / (m.max() - m.min()), 5, mode="reflect")
        for m in (first.double().numpy(), second.double().numpy())
    )
    values = []
    for i in range(first.shape[0]):
        for j in range(first.shape[1]):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a = (window * a**2).sum() - mean_a**2
            var_b = (window * b**2).sum() - mean_b**2
            covariance = (window * a * b).sum() - mean_a * mean_b
            likeness = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
            values.append(likeness / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(np.mean(values))


def test_similarity_image_by_image() -> None:
    first = draw(0, 3, 12, 15)
    second = first + draw(1, 3, 12, 15) * torch.tensor([0.1, 1, 10])[:, None, None]
    found = similarity(first, second)
    for i in range(3):
        expected = spearmanr(first[i].flatten(), second[i].flatten()).statistic
        assert float(found.spearman[i]) == pytest.approx(expected)
        assert float(found.ssim[i]) == pytest.approx(slow_ssim(first[i], second[i]), abs=1e-4)
    assert (found.spearman.diff() < 0).all()
    assert (found.ssim.diff() < 0).all()


def test_maps_that_differ_in_scale_alone_are_alike() -> None:
    first = draw(0, 1, 12, 15)
    found = similarity(first, 100 * first - 7)
    assert [float(found.spearman), float(found.ssim)] == pytest.approx([1, 1], abs=1e-4)
    constant = similarity(first, torch.ones_like(first))
    assert float(constant.spearman) == 0
    assert float(constant.ssim) < 0.1
