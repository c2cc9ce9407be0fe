"""Insertion and deletion against RISE's loop, and where the best explanation is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.targets import Output
from saliency_vae.metrics.imputation import Imputation, InPainting, NoisyLinearImputation
from saliency_vae.metrics.insertion_deletion import (
    area_under_curve,
    deletion_curve,
    insertion_curve,
    insertion_deletion,
)
from saliency_vae.perturbations import Blur, Constant, Mean

few = settings(deadline=None, max_examples=30, derandomize=True)
B, H, W = 4, 7, 9


def classifier(output: Output = "softmax", classes: int = 5) -> FrozenClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(8 * (H - 2) * (W - 2), classes)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), head)
    head.weight.data.mul_(8)
    return FrozenClassifier(network, name="random", mean=(0.4,) * 3, std=(0.2,) * 3, output=output)


def draw(seed: int = 0, size: int = B) -> tuple[Tensor, Tensor]:
    """Images and maps without ties."""
    noise = torch.Generator().manual_seed(seed)
    maps = torch.stack([torch.randperm(H * W, generator=noise) for _ in range(size)])
    return torch.rand(size, 3, H, W, generator=noise), maps.view(size, H, W) - 20.0


def rise(
    model: FrozenClassifier, image: Tensor, saliency: Tensor, baseline: Tensor, mode: str, step: int
) -> tuple[NDArray[np.float64], float]:
    """One image at a time, pixels replaced in place as RISE does: curve and area under it."""

    def probabilities(view: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            logits = model(torch.from_numpy(view).view(1, 3, H, W))
        return model.probabilities(logits)[0].numpy()

    def of_decision(found: NDArray[np.float32]) -> float:
        if model.output == "softmax":
            return float(found[decided.argmax()])
        kept = (p if d > 0.5 else 1 - p for p, d in zip(found, decided, strict=True))
        return float(math.prod(kept))

    x, b = image.numpy().reshape(3, -1).copy(), baseline.numpy().reshape(3, -1).copy()
    start, finish = (b, x) if mode == "insertion" else (x, b)
    decided = probabilities(x)
    salient_first = np.argsort(saliency.numpy().ravel())[::-1]
    steps = (H * W + step - 1) // step
    curve = np.empty(steps + 1)
    view = start.copy()
    for i in range(steps + 1):
        curve[i] = of_decision(probabilities(view))
        replaced = salient_first[step * i : step * (i + 1)]
        view[:, replaced] = finish[:, replaced]
    return curve, (curve.sum() - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("step", [1, 8, 9, 100])
@pytest.mark.parametrize("baseline", [Blur(2.0), Mean(), Constant()])
def test_equals_the_loop_of_rise(output: Output, step: int, baseline: nn.Module) -> None:
    model, (images, saliency) = classifier(output), draw()
    removed = baseline(images)
    fast = insertion_deletion(model, images, saliency, removed, step=step, batch_size=11)
    for mode, curves, areas in (
        ("insertion", fast.insertion, fast.insertion_auc),
        ("deletion", fast.deletion, fast.deletion_auc),
    ):
        assert curves.shape == (B, math.ceil(H * W / step) + 1)
        for i in range(B):
            curve, area = rise(model, images[i], saliency[i], removed[i], mode, step)
            np.testing.assert_allclose(curves[i], curve, atol=2e-6)
            assert float(areas[i]) == pytest.approx(area, abs=2e-6)
    assert fast.insertion.std() > 0.05  # the curves are not trivial


@pytest.mark.parametrize("imputation", [InPainting(), NoisyLinearImputation()])
def test_imputations_see_the_pixels_that_are_kept(imputation: Imputation) -> None:
    model, (images, saliency) = classifier(), draw()
    fast = insertion_deletion(model, images, saliency, imputation, step=9, batch_size=11)
    order = saliency.flatten(1).argsort(1, descending=True)
    decided = model.decide(model(images))
    for point in range(H * W // 9 + 1):
        inserted = torch.zeros(B, H * W, dtype=torch.bool)
        inserted.scatter_(1, order[:, : 9 * point], True)
        for curve, kept in ((fast.insertion, inserted), (fast.deletion, ~inserted)):
            views = imputation(images, kept.view(B, H, W))
            expected = model.probability(model(views), decided)
            torch.testing.assert_close(curve[:, point], expected, atol=1e-5, rtol=0)
    assert fast.insertion.std() > 0.05


def test_symmetric_relevance_gain_is_the_area_between_both_orders_of_removal() -> None:
    model, (images, saliency) = classifier(), draw()
    baseline = Mean()(images)
    arguments = model, images, saliency, baseline
    found = insertion_deletion(*arguments, step=7)
    least_first = deletion_curve(model, images, -saliency, baseline, step=7)
    between = area_under_curve(least_first - deletion_curve(*arguments, step=7))
    torch.testing.assert_close(found.symmetric_relevance_gain, between)
    opposite = insertion_deletion(model, images, -saliency, baseline, step=7)
    torch.testing.assert_close(opposite.symmetric_relevance_gain, -between)
    assert between.abs().max() > 0.1


def test_symmetric_relevance_gain_of_few_deciding_pixels() -> None:
    weights = torch.zeros(H, W)
    weights[2, 3:5] = 9
    images = torch.ones(1, 3, H, W)
    best = insertion_deletion(linear(weights), images, weights[None], 0 * images, step=2)
    # The probability is 1 at all 33 points but the first of insertion; at none but deletion's.
    assert float(best.symmetric_relevance_gain) == pytest.approx((31.75 - 16.25) / 32, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 10, 1000])
def test_batch_size_changes_nothing(batch_size: int) -> None:
    model, (images, saliency) = classifier(), draw()
    seen = []
    hook = model.register_forward_hook(lambda module, views, logits: seen.append(len(views[0])))
    curve = insertion_curve(model, images, saliency, images / 2, step=5, batch_size=batch_size)
    hook.remove()
    whole = insertion_curve(model, images, saliency, images / 2, step=5)
    torch.testing.assert_close(curve, whole, atol=1e-6, rtol=0)
    assert max(seen[1:]) <= batch_size  # the first call decides the classes


def test_curves_run_between_the_baseline_and_the_image() -> None:
    model, (images, saliency) = classifier(), draw()
    baseline = Mean()(images)
    result = insertion_deletion(model, images, saliency, baseline, step=10)
    probability = model.probabilities(model(images))
    decided = probability.argmax(1, keepdim=True)
    whole = probability.gather(1, decided)[:, 0]
    nothing = model.probabilities(model(baseline)).gather(1, decided)[:, 0]
    for curve in (result.insertion, result.deletion.flip(1)):
        torch.testing.assert_close(curve[:, 0], nothing)
        torch.testing.assert_close(curve[:, -1], whole)


def test_a_single_label_is_watched_in_the_state_it_was_decided() -> None:
    model, (images, saliency) = classifier("sigmoid", classes=1), draw(size=12)
    present = model.probabilities(model(images))[:, 0]
    assert 0 < (present > 0.5).sum() < 12
    curve = insertion_curve(model, images, saliency, images / 2, step=20)
    torch.testing.assert_close(curve[:, -1], torch.maximum(present, 1 - present))


def linear(weights: Tensor) -> FrozenClassifier:
    """Two classes; the weights (H, W) of grey pixels decide between them."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * H * W, 2, bias=False))
    rows = torch.stack([weights, -weights])[:, None].expand(-1, 3, -1, -1).flatten(1)
    network.load_state_dict({"1.weight": rows})
    return FrozenClassifier(network, name="linear")


@few
@given(seed=st.integers(0, 10_000), step=st.integers(1, H * W))
def test_the_truth_of_a_linear_classifier_beats_every_map_at_every_point(
    seed: int, step: int
) -> None:
    noise = torch.Generator().manual_seed(seed)
    model = linear(torch.randn(H, W, generator=noise) / 10)
    images, other = draw(seed)
    logits = model(images)
    gradient = model.network[1].weight[logits.argmax(1)].view(B, 3, H, W)  # type: ignore[index]
    truth = (gradient * (images - 0.5)).sum(1)
    baseline = torch.full_like(images, 0.5)

    def curves(saliency: Tensor) -> tuple[Tensor, Tensor]:
        return insertion_deletion(model, images, saliency, baseline, step=step)[:2]

    (best_in, best_out), (worst_in, worst_out) = curves(truth), curves(-truth)
    some_in, some_out = curves(other)
    slack = 1e-5
    assert (best_in >= some_in - slack).all()
    assert (some_in >= worst_in - slack).all()
    assert (best_out <= some_out + slack).all()
    assert (some_out <= worst_out + slack).all()


def test_a_few_deciding_pixels_are_worth_all_the_others() -> None:
    weights = torch.zeros(H, W)
    weights[2, 3:5] = 5
    images = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(0)).clamp_min(0.5)
    found = insertion_deletion(linear(weights), images, weights[None], 0 * images, step=2)
    torch.testing.assert_close(found.insertion[0, 1:], torch.ones(32), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.deletion[0, 1:], torch.full((32,), 0.5))
    assert float(found.insertion_auc) == pytest.approx((0.25 + 31.5) / 32, abs=1e-5)
    missed = insertion_deletion(linear(weights), images, -weights[None], 0 * images, step=2)
    assert float(missed.insertion_auc) == pytest.approx((30.5 * 0.5 + 1.25) / 32, abs=0.01)


def test_area_is_the_trapezoidal_rule() -> None:
    curve = torch.rand(3, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(area_under_curve(curve), torch.trapezoid(curve, dx=1 / 6))


def test_equal_pixels_come_in_reading_order() -> None:
    model, (images, _) = classifier(), draw()
    reading = -torch.arange(float(H * W)).view(1, H, W).expand(B, H, W)
    flat = deletion_curve(model, images, torch.zeros(B, H, W), images / 2, step=4)
    assert torch.equal(flat, deletion_curve(model, images, reading, images / 2, step=4))


def test_step_must_be_positive() -> None:
    images, saliency = draw()
    with pytest.raises(ValueError, match=r"^Expected step >= 1 pixel\. Found 0\.$"):
        deletion_curve(classifier(), images, saliency, images, step=0)
