"""Soft top-k against Sinkhorn's algorithm, and its limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saliency_vae.topk import SoftTopK, active_fraction, hard_topk, num_kept, soft_topk, threshold
from tests.helpers import reference

few = settings(deadline=None, max_examples=20, derandomize=True)


def random_scores(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@few
@given(
    n=st.integers(2, 40),
    share=st.floats(0.02, 0.98),
    temperature=st.floats(0.2, 2),
    seed=st.integers(0, 99),
)
def test_equals_sinkhorn(n: int, share: float, temperature: float, seed: int) -> None:
    scores, k = random_scores(n, seed=seed), share * n
    mask = soft_topk(scores, k, temperature=temperature)
    expected = reference.sinkhorn_topk(scores, k, temperature)
    torch.testing.assert_close(mask, expected, rtol=0, atol=1e-6)
    assert float(mask.sum()) == pytest.approx(k, rel=1e-8)


@pytest.mark.parametrize("k", [0.3, 4, 11.5])
def test_gradient_equals_sinkhorn(k: float) -> None:
    scores, weight = random_scores(12).requires_grad_(), random_scores(12, seed=1)
    (gradient,) = torch.autograd.grad(
        (weight * soft_topk(scores, k, temperature=0.5)).sum(), scores
    )
    (expected,) = torch.autograd.grad(
        (weight * reference.sinkhorn_topk(scores, k, 0.5)).sum(), scores
    )
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_gradcheck(temperature: float) -> None:
    scores = random_scores(2, 9).requires_grad_()
    k = torch.tensor([2.0, 6.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda scores: soft_topk(scores, k, temperature=temperature), (scores,)
    )


def test_each_row_has_its_own_k() -> None:
    scores = random_scores(2, 3, 50)
    k = torch.tensor([[1, 10, 49.0], [0, 25.5, 50]], dtype=torch.float64)
    mask = soft_topk(scores, k, temperature=0.1)
    torch.testing.assert_close(mask.sum(-1), k)
    alone = soft_topk(scores[1, 1], 25.5, temperature=0.1)
    torch.testing.assert_close(mask[1, 1], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [0, 1e-6, 0.01, 99.99, 100])
def test_near_both_ends(k: float, dtype: torch.dtype) -> None:
    scores = random_scores(3, 100, dtype=dtype).requires_grad_()
    mask = soft_topk(scores, k, temperature=0.03)
    resolution = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        mask.sum(-1), torch.full((3,), k, dtype=dtype), rtol=1e-4, atol=resolution
    )
    assert mask.min() >= 0
    assert mask.max() <= 1
    (gradient,) = torch.autograd.grad(mask.square().sum(), scores)
    assert gradient.isfinite().all()
    if k in (0, 100):
        assert (mask == k / 100).all()


def test_ties_share() -> None:
    mask = soft_topk(torch.zeros(2, 8, dtype=torch.float64), 3, temperature=0.01)
    torch.testing.assert_close(mask, torch.full_like(mask, 3 / 8))
    scores = torch.tensor([5.0, 1.0, 1.0, -5.0], dtype=torch.float64)
    mask = soft_topk(scores, 2, temperature=0.01)
    torch.testing.assert_close(mask, torch.tensor([1.0, 0.5, 0.5, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("fraction", "temperature"), [(0.0002, 0.03), (0.05, 0.03), (0.3, 1.0), (0.9, 0.03)]
)
def test_float32_at_image_size(fraction: float, temperature: float) -> None:
    n = 224 * 224
    scores = random_scores(2, n, dtype=torch.float32)
    mask = soft_topk(scores, fraction * n, temperature=temperature)
    assert mask.dtype == torch.float32
    total = mask.double().sum(-1)
    torch.testing.assert_close(
        total, torch.full((2,), fraction * n, dtype=torch.float64), rtol=1e-3, atol=0
    )
    exact = soft_topk(scores.double(), fraction * n, temperature=temperature)
    torch.testing.assert_close(mask.double(), exact, rtol=0, atol=1e-4)


def awkward_scores(kind: str) -> Tensor:
    scores = random_scores(3, 5000)
    if kind == "an outlier":
        scores[:, 0] = 1e6
    elif kind == "two groups":
        scores = 0.1 * scores
        scores[:, :1000] += 5
    elif kind == "heavy tails":
        scores = scores**5
    elif kind == "few values":
        scores = scores.round()
    return scores


@pytest.mark.parametrize("share", [0.0004, 0.1, 0.2, 0.95])
@pytest.mark.parametrize("temperature", [1e-4, 0.03, 10.0])
@pytest.mark.parametrize("kind", ["an outlier", "two groups", "heavy tails", "few values"])
def test_awkward_scores(kind: str, temperature: float, share: float) -> None:
    scores = awkward_scores(kind)
    k = share * scores.shape[-1]
    exact = soft_topk(scores, k, temperature=temperature)
    # The threshold is a number of float64 too: a step of it moves the sum by as much as this.
    step = float((scores.abs().amax() * 1e-15 / temperature).clamp_max(1)) * scores.shape[-1]
    torch.testing.assert_close(
        exact.sum(-1), torch.full((3,), k, dtype=torch.float64), rtol=1e-10, atol=step
    )


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3])
def test_a_map_takes_few_evaluations(fraction: float) -> None:
    evaluations = 0

    def counted(z: Tensor, /, *, out: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return torch.sigmoid(z, out=out)

    n = 224 * 224
    scores = random_scores(4, n, dtype=torch.float32)
    threshold(scores, 0.03, fraction * n, cdf=counted, quantile=torch.logit)
    assert evaluations <= 18  # halving the bracket takes about 30


@few
@given(n=st.integers(2, 60), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_no_temperature_is_the_hard_topk(n: int, share: float, seed: int) -> None:
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    k = round(share * n)
    mask = soft_topk(order.double(), k, temperature=1e-3)  # scores a whole number apart
    torch.testing.assert_close(mask, (order >= n - k).double(), rtol=0, atol=1e-6)


def test_order_is_kept_and_a_shift_ignored() -> None:
    scores = random_scores(40).sort().values
    mask = soft_topk(scores, 7, temperature=0.5)
    assert (mask.diff() > 0).all()
    torch.testing.assert_close(soft_topk(scores + 3, 7, temperature=0.5), mask)


@pytest.mark.parametrize("k", [-1, 10.5, math.nan])
def test_wrong_k(k: float) -> None:
    with pytest.raises(ValueError, match="0 <= k <= 10"):
        soft_topk(torch.zeros(10), k, temperature=0.1)


@pytest.mark.parametrize("temperature", [0, -0.1, math.nan])
def test_wrong_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature > 0"):
        soft_topk(torch.zeros(10), 3, temperature=temperature)
    with pytest.raises(ValueError, match=r"0 < topk\.temperature"):
        SoftTopK(temperature=temperature)


@pytest.mark.parametrize("fraction", [(0, 0.3), (0.3, 0.1), (0.5, 1.1), (math.nan, 0.5)])
def test_wrong_fraction_range(fraction: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"topk\.fraction"):
        SoftTopK(fraction)


def test_operator_draws_fractions_log_uniformly() -> None:
    torch.manual_seed(0)
    low, high, count = 0.02, 0.5, 2000
    mask = SoftTopK((low, high), temperature=0.1)(random_scores(count, 10, 12))
    assert mask.shape == (count, 10, 12)
    fraction = mask.mean((1, 2))
    assert fraction.min() >= low * (1 - 1e-6)
    assert fraction.max() <= high * (1 + 1e-6)
    place = (fraction / low).log().sort().values / math.log(high / low)
    uniform = (torch.arange(count) + 0.5) / count
    # Kolmogorov-Smirnov distance at the 0.1 % level; a uniform draw is 0.4 away.
    assert (place - uniform).abs().max() < 1.95 / math.sqrt(count)


def test_operator_with_one_fraction() -> None:
    mask = SoftTopK((0.1, 0.1))(random_scores(3, 20, 10))
    torch.testing.assert_close(mask.sum((1, 2)), torch.full((3,), 20.0, dtype=torch.float64))


def test_straight_through_is_hard_forward_and_soft_backward() -> None:
    saliency = random_scores(4, 16, 16, dtype=torch.float32)
    weight = random_scores(4, 16, 16, seed=1, dtype=torch.float32)
    masks: list[Tensor] = []
    gradients: list[Tensor] = []
    for straight_through in (False, True):
        torch.manual_seed(0)
        leaf = saliency.clone().requires_grad_()
        mask = SoftTopK(straight_through=straight_through)(leaf)
        masks.append(mask.detach())
        gradients += torch.autograd.grad((mask * weight).sum(), leaf)
    soft, hard = masks
    assert ((soft > 0.01) & (soft < 0.99)).any()
    for row, (scores, share) in enumerate(zip(saliency, soft, strict=True)):
        count = round(float(share.sum()))
        expected = hard_topk(scores.flatten(), count).float()
        torch.testing.assert_close(hard[row].flatten(), expected, rtol=0, atol=1e-6)
    assert torch.equal(gradients[0], gradients[1])
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize("stddev", [0.0, 0.05, 1.0])
def test_straight_through_keeps_the_share_that_was_drawn_of_flat_maps_too(stddev: float) -> None:
    saliency = stddev * random_scores(4, 20, 20, dtype=torch.float32)
    mask = SoftTopK((0.1, 0.1), 0.3, straight_through=True)(saliency)
    assert mask.round().flatten(1).sum(1).tolist() == [40] * 4
    if stddev:
        expected = torch.stack([hard_topk(scores, 40) for scores in saliency.flatten(1)])
        assert torch.equal(mask.flatten(1) > 0.5, expected)


@few
@given(n=st.integers(1, 50), share=st.floats(0, 1), levels=st.integers(1, 4))
def test_hard_topk_marks_exactly_k_under_ties(n: int, share: float, levels: int) -> None:
    scores = torch.randint(levels, (3, n), generator=torch.Generator().manual_seed(n)).float()
    k = round(share * n)
    mask = hard_topk(scores, k)
    assert mask.dtype == torch.bool
    assert mask.sum(-1).tolist() == [k] * 3
    for row, chosen in zip(scores, mask, strict=True):
        if 0 < k < n:
            assert row[chosen].min() >= row[~chosen].max()


@pytest.mark.parametrize(
    ("fraction", "n", "expected"), [(0.1, 100, 10), (0.1, 4, 1), (1, 7, 7), (0.26, 10, 3)]
)
def test_kept(fraction: float, n: int, expected: int) -> None:
    assert num_kept(fraction, n) == expected


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, math.nan])
def test_kept_wrong_fraction(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        num_kept(fraction, 10)


def test_active_fraction() -> None:
    mask = torch.tensor([[0.0, 1.0, 0.5, 0.2], [0.001, 0.999, 0.9, 1.0]])
    assert float(active_fraction(mask)) == pytest.approx(3 / 8)


def test_annealing_goes_geometrically_from_the_initial_temperature_to_the_final() -> None:
    topk = SoftTopK(temperature=0.03, initial_temperature=0.3)
    assert topk.temperature == 0.03  # for use, before and without annealing
    for progress, expected in ((0.0, 0.3), (0.5, 0.3 * 0.1**0.5), (1.0, 0.03), (7.0, 0.03)):
        assert topk.annealed(progress) == pytest.approx(expected)
    assert topk.temperature == 0.03


def test_without_an_initial_temperature_annealing_changes_nothing() -> None:
    topk = SoftTopK(temperature=0.05)
    assert topk.annealed(0.0) == 0.05


def test_an_initial_temperature_below_the_final_is_refused() -> None:
    with pytest.raises(ValueError, match=r"topk\.temperature <= topk\.initial_temperature"):
        SoftTopK(temperature=0.1, initial_temperature=0.05)
