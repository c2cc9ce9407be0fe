"""Metrics of uncertainty against loops, scipy and scikit-learn."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error

from saliency_vae.metrics.ranking import average_rank, descending_rank, spearman
from saliency_vae.metrics.uncertainty import (
    aurc,
    ause,
    calibration_error,
    expected_calibration_error,
    failure_auroc,
    reliability_table,
    selective_curve,
    sparsification_curve,
)

few = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 10_000)
levels = st.sampled_from([2, 5, 10**6])  # different values: few of them make many ties


def draw(seed: int, *shape: int, levels: int = 10**6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(levels, shape, generator=generator) / levels


@few
@given(seed=seeds, levels=levels, n=st.integers(1, 30))
def test_ranks(seed: int, levels: int, n: int) -> None:
    values = draw(seed, 3, n, 2, levels=levels)
    ranks = average_rank(values.flatten(1))
    np.testing.assert_array_equal(ranks, rankdata(values.flatten(1), axis=1))
    descending = descending_rank(values).flatten(1)
    for row, position in zip(values.flatten(1).tolist(), descending.tolist(), strict=True):
        order = sorted(range(2 * n), key=lambda i: -row[i])
        assert [position[i] for i in order] == list(range(2 * n))


@few
@given(seed=seeds, levels=levels, n=st.integers(3, 30))
def test_spearman(seed: int, levels: int, n: int) -> None:
    first, second = draw(seed, 3, n, 2, levels=levels), draw(seed + 1, 3, n, 2, levels=levels)
    first[0, 0, 0], second[0, 0, 0] = 3, -1
    for i, found in enumerate(spearman(first, second).tolist()):
        x, y = first[i].flatten().numpy(), second[i].flatten().numpy()
        constant = np.ptp(x) == 0 or np.ptp(y) == 0
        expected = 0 if constant else spearmanr(x, y).statistic
        assert found == pytest.approx(expected, abs=1e-12)


def test_spearman_knows_order_alone_and_a_constant_map_has_none() -> None:
    maps = draw(0, 2, 50, 50)
    assert spearman(maps, maps.exp()).tolist() == pytest.approx([1, 1])
    assert spearman(maps, -maps).tolist() == pytest.approx([-1, -1])
    assert spearman(maps, torch.ones_like(maps)).tolist() == [0, 0]


def rejecting(values: list[float], uncertainty: list[float], fraction: float) -> float:
    """Mean of what is kept, averaged over every order of the equally uncertain."""
    n = len(values)
    kept = max(1, n - round(fraction * n))
    means = []
    for order in itertools.permutations(range(n)):
        if all(uncertainty[a] <= uncertainty[b] for a, b in itertools.pairwise(order)):
            means.append(sum(values[i] for i in order[:kept]) / kept)
    return sum(means) / len(means)


@few
@given(seed=seeds, levels=levels, n=st.integers(1, 6))
def test_selective_curve(seed: int, levels: int, n: int) -> None:
    values, uncertainty = draw(seed, 2, n), draw(seed + 1, 2, n, levels=levels)
    fractions = (0.0, 0.3, 0.7, 0.9)
    curve = selective_curve(values, uncertainty, fractions)
    for row, v, u in zip(curve.tolist(), values.tolist(), uncertainty.tolist(), strict=True):
        assert row == pytest.approx([rejecting(v, u, fraction) for fraction in fractions])


def test_rejects_exactly_the_fraction() -> None:
    values = torch.arange(10.0)
    assert selective_curve(values, values).tolist() == pytest.approx(
        [4.5 - i / 2 for i in range(10)]
    )
    assert selective_curve(values, -values)[-1] == 9
    with pytest.raises(ValueError, match=r"^Expected fractions in \[0, 1\)\. Found \[1\.0\]\.$"):
        selective_curve(values, values, [1.0])


def test_aurc_against_a_loop() -> None:
    error, uncertainty = draw(0, 3, 40), draw(1, 3, 40)
    for errors, order, found in zip(error, uncertainty, aurc(error, uncertainty), strict=True):
        ranked = errors[order.argsort()].double()
        left = [float(ranked[: 40 - 2 * twentieth].mean()) for twentieth in range(20)]
        pairs = itertools.pairwise(left)
        assert float(found) == pytest.approx(sum((a + b) / 2 for a, b in pairs) / 19)
    assert (aurc(error, error) < aurc(error, -error)).all()
    torch.testing.assert_close(aurc(error, torch.zeros(3, 40)), error.double().mean(1))


def test_ause_against_a_loop() -> None:
    error, uncertainty = draw(0, 3, 40), draw(1, 3, 40)
    for e, u, found in zip(
        error.tolist(), uncertainty.tolist(), ause(error, uncertainty), strict=True
    ):
        by_uncertainty = [e[i] for i in sorted(range(40), key=lambda i: u[i])]
        gaps = []
        for twentieth in range(20):
            kept = 40 - 2 * twentieth
            gap = sum(by_uncertainty[:kept]) - sum(sorted(e)[:kept])
            gaps.append(gap / kept / (sum(e) / 40))
        area = sum((a + b) / 2 / 20 for a, b in itertools.pairwise(gaps))
        assert float(found) == pytest.approx(area, rel=1e-6)


@few
@given(seed=seeds, levels=levels)
def test_no_uncertainty_sorts_better_than_the_error_itself(seed: int, levels: int) -> None:
    error, uncertainty = draw(seed, 5, 37), draw(seed + 1, 5, 37, levels=levels)
    area = ause(error, uncertainty)
    assert (area >= -1e-12).all()
    assert (area <= ause(error, -error) + 1e-12).all()
    assert (ause(error, error.square()) < 1e-12).all()
    torch.testing.assert_close(area, ause(7 * error, uncertainty))


def test_a_constant_uncertainty_removes_nothing_on_average() -> None:
    error = draw(0, 2, 30)
    curve = sparsification_curve(error, torch.ones(2, 30))
    torch.testing.assert_close(curve, torch.ones(2, 20, dtype=torch.float64))
    assert ause(torch.zeros(1, 9), draw(0, 1, 9)).tolist() == [0]


def slow_calibration_error(probability: Tensor, outcome: Tensor, bins: int) -> float:
    error, pairs = 0.0, list(zip(probability.flatten(), outcome.flatten(), strict=True))
    for b in range(bins):
        inside = [
            (float(p), float(o)) for p, o in pairs if min(int(float(p) * bins), bins - 1) == b
        ]
        if inside:
            predicted = sum(p for p, _ in inside) / len(inside)
            observed = sum(o for _, o in inside) / len(inside)
            error += len(inside) / len(pairs) * abs(predicted - observed)
    return error


@few
@given(seed=seeds, bins=st.integers(1, 20), levels=levels)
def test_calibration_error(seed: int, bins: int, levels: int) -> None:
    probability, outcome = draw(seed, 4, 3, 5), draw(seed + 1, 4, 3, 5, levels=levels)
    probability[0, 0, :2] = torch.tensor([0.0, 1.0])
    found = expected_calibration_error(probability, outcome, bins)
    assert float(found) == pytest.approx(slow_calibration_error(probability, outcome, bins))
    tables = reliability_table(probability, outcome, bins)
    assert tables.shape == (4, bins, 3)
    torch.testing.assert_close(calibration_error(tables.mean(0)), found)
    for table, p, o in zip(tables, probability, outcome, strict=True):
        single = slow_calibration_error(p, o, bins)
        assert float(calibration_error(table)) == pytest.approx(single)


def test_calibration_error_of_binary_outcomes_is_torchmetrics() -> None:
    probability, outcome = draw(0, 1, 5000), draw(1, 1, 5000) < draw(0, 1, 5000).square()
    expected = binary_calibration_error(probability[0], outcome[0].int(), n_bins=10)
    found = expected_calibration_error(probability, outcome, 10)
    assert float(found) == pytest.approx(float(expected), abs=1e-5)
    assert float(found) > 0.1  # mean of p - p^2 is 1/6
    assert float(expected_calibration_error(probability, draw(2, 1, 5000) < probability)) < 0.04


@few
@given(seed=seeds, levels=levels, n=st.integers(2, 40))
def test_auroc(seed: int, levels: int, n: int) -> None:
    score, failed = 9 * draw(seed, n, levels=levels), draw(seed + 1, n) < 0.4
    failed[0], failed[1] = True, False
    expected = roc_auc_score(failed.numpy(), score.numpy())
    assert float(failure_auroc(score, failed)) == pytest.approx(expected)


def test_auroc_needs_both_outcomes() -> None:
    assert failure_auroc(torch.rand(5), torch.zeros(5, dtype=torch.bool)).isnan()
    assert failure_auroc(torch.rand(5), torch.ones(5, dtype=torch.bool)).isnan()
