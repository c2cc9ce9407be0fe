"""The objective against its equations, term by term."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier, Output
from saliency_vae.distributions import DiagonalNormal, KroneckerNormal
from saliency_vae.objective import LossTerms, MaskedViews, Objective
from saliency_vae.perturbations import Mean, perturb
from saliency_vae.topk import SoftTopK
from tests.conftest import SIZE, blob_classifier, blobs, objective
from tests.helpers.masked_views import masked_views


def kl(target: Tensor, prediction: Tensor) -> Tensor:
    """KL divergence of class probabilities (B, classes)."""
    return (target * (target / prediction).log()).sum(-1)


def evaluate(**settings: Any) -> tuple[MaskedViews, LossTerms]:
    images, classifier = blobs(4), blob_classifier()
    torch.manual_seed(0)
    posterior = DiagonalNormal(torch.randn(4, SIZE, SIZE), torch.full((4, SIZE, SIZE), -2.0))
    topk = SoftTopK((0.1, 0.3), temperature=0.1)
    objective = Objective(topk, Mean(), beta=0.2, **settings)
    views = masked_views(objective, images, posterior, classifier)
    return views, objective(views, posterior, KroneckerNormal(SIZE, SIZE), classifier)


def test_the_paper() -> None:
    views, found = evaluate()
    classifier, images = blob_classifier(), blobs(4)
    y = classifier(images).softmax(-1)
    kept = perturb(images, views.mask, Mean()(images))
    torch.testing.assert_close(found.reconstruction, kl(y, classifier(kept).softmax(-1)))
    torch.testing.assert_close(found.loss, found.reconstruction + 0.2 * found.kl)
    assert not found.complement.any()


def test_the_left_out_view_tells_no_more_than_the_baseline_image() -> None:
    views, found = evaluate(complement=0.7)
    classifier, images = blob_classifier(), blobs(4)
    baseline = Mean()(images)
    left_out = classifier(perturb(images, 1 - views.mask, baseline)).softmax(-1)
    torch.testing.assert_close(found.complement, kl(classifier(baseline).softmax(-1), left_out))
    expected = found.reconstruction + 0.2 * found.kl + 0.7 * found.complement
    torch.testing.assert_close(found.loss, expected)


@pytest.mark.parametrize("complement", [0.0, 0.7])
def test_all_views_are_classified_in_one_pass(complement: float) -> None:
    classifier, calls, images = blob_classifier(), list[int](), blobs(4)
    original = classifier(images)
    uninformed = classifier(Mean()(images))
    classifier.network.register_forward_hook(lambda net, given, out: calls.append(len(given[0])))
    whole = replace(objective(), complement=complement)
    saliency = torch.randn(images[:, 0].shape)
    views = whole.views(saliency, images, original, classifier, uninformed=uninformed)
    assert calls == [8 if complement else 4]
    torch.testing.assert_close(views.prediction, classifier(views.perturbed))
    assert (views.left_out is not None) == bool(complement)
    if complement:
        expected = classifier(perturb(images, 1 - views.mask, views.baseline))
        torch.testing.assert_close(views.left_out, expected)


def test_views_of_an_objective_without_complement_are_refused() -> None:
    views, _ = evaluate()
    with pytest.raises(ValueError, match=r"Found none: make them by the views\(\) of this obj"):
        terms_of(blob_classifier(), views, complement=0.7)


def test_sharpness_is_a_power_of_the_prediction() -> None:
    views, found = evaluate(sharpness=3.0)
    y = blob_classifier()(blobs(4)).softmax(-1) ** 3
    sharp = y / y.sum(-1, keepdim=True)
    torch.testing.assert_close(found.reconstruction, kl(sharp, views.prediction.softmax(-1)))
    assert (sharp.amax(-1) > views.original.softmax(-1).amax(-1)).all()


def test_the_mean_penalty_keeps_the_mean_at_the_priors() -> None:
    images = blobs(4)
    mean, expected_there = torch.randn(2, 4, SIZE, SIZE)
    prior = KroneckerNormal(SIZE, SIZE).around(expected_there)
    posterior = DiagonalNormal(mean, torch.zeros_like(mean))
    objective = Objective(SoftTopK((0.1, 0.3)), Mean(), beta=0.2, mean_penalty=0.7)
    classifier = blob_classifier()
    views = masked_views(objective, images, posterior, classifier)
    found = objective(views, posterior, prior, classifier)
    difference = (mean - expected_there).flatten(1)
    expected = 0.7 * (difference**2).sum(1) / (2 * SIZE**2)
    without = found.reconstruction + 0.2 * found.kl
    torch.testing.assert_close(found.loss - without, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(0.7 * found.mean_penalty, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"complement": -1.0}, r"Expected complement >= 0\. Found -1\.0"),
        ({"mean_penalty": -1.0}, r"Expected mean_penalty >= 0\. Found -1\.0"),
        ({"sharpness": 0.0}, r"Expected sharpness > 0\. Found 0\.0"),
        ({"sharpness": float("nan")}, r"Expected sharpness > 0\. Found nan"),
        ({"distance": "l2"}, r"Expected distance kl or total_variation\. Found l2"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(**settings)


def test_predictions_are_compared_by_their_total_variation() -> None:
    views, found = evaluate(distance="total_variation", complement=0.7)
    assert views.uninformed is not None
    assert views.left_out is not None
    pairs = [(views.original, views.prediction), (views.uninformed, views.left_out)]
    for terms, (y, other) in zip((found.reconstruction, found.complement), pairs, strict=True):
        gains = (y.softmax(-1) - other.softmax(-1)).clamp_min(0)
        torch.testing.assert_close(terms, gains.sum(-1))  # over the best set of classes
    expected = found.reconstruction + 0.2 * found.kl + 0.7 * found.complement
    torch.testing.assert_close(found.loss, expected)


def test_a_bounded_objective_weighs_its_other_terms_a_quarter() -> None:
    kl_based = replace(objective(), beta=0.2, mean_penalty=0.4, complement=0.7)
    found = kl_based.bounded()
    assert found.bounded() is found
    assert (found.distance, found.complement) == ("total_variation", 0.7)
    assert (found.beta, found.mean_penalty) == (0.05, 0.1)


def test_the_total_variation_of_labels_is_the_mean_of_theirs() -> None:
    classifier, views = asked_views("sigmoid", [0.0] * 4)
    found = terms_of(classifier, replace(views, target=None), distance="total_variation")
    difference = views.original.sigmoid() - views.prediction.sigmoid()
    torch.testing.assert_close(found.reconstruction, difference.abs().mean(-1))


# ---- where there is a target


def asked_views(
    output: Output, target: list[float], **settings: Any
) -> tuple[FrozenClassifier, MaskedViews]:
    """Views of one image for a target, and the classifier of four classes or labels."""
    classifier, images = blob_classifier(), blobs(4)
    classifier.output = output
    torch.manual_seed(0)
    posterior = DiagonalNormal(torch.randn(4, SIZE, SIZE), torch.full((4, SIZE, SIZE), -2.0))
    views = masked_views(replace(objective(), **settings), images, posterior, classifier)
    return classifier, replace(views, target=torch.tensor([target] * 4))


def terms_of(classifier: FrozenClassifier, views: MaskedViews, **settings: Any) -> LossTerms:
    mean = torch.zeros(4, SIZE, SIZE)
    made = replace(objective(), **settings)
    return made(views, DiagonalNormal(mean, mean), KroneckerNormal(SIZE, SIZE), classifier)


@pytest.mark.parametrize("asked", range(4))
def test_a_class_that_is_asked_about_is_reconstructed_alone(asked: int) -> None:
    one_hot = [float(label == asked) for label in range(4)]
    classifier, views = asked_views("softmax", one_hot)
    found = terms_of(classifier, views).reconstruction
    torch.testing.assert_close(found, -views.prediction.softmax(1)[:, asked].log())
    as_kl = F.kl_div(views.prediction.log_softmax(1), torch.tensor([one_hot] * 4), reduction="none")
    torch.testing.assert_close(found, as_kl.sum(1))
    # Sharpened without end, the decision of the paper's objective is this one.
    decided = replace(views, target=classifier.decide(views.original))
    torch.testing.assert_close(
        terms_of(classifier, decided).reconstruction,
        terms_of(classifier, replace(views, target=None), sharpness=1e3).reconstruction,
    )


@pytest.mark.parametrize(("label", "weight"), [(0, 1.0), (2, 1.0), (2, -1.0)])
def test_a_label_that_is_asked_about_is_reconstructed_alone(label: int, weight: float) -> None:
    classifier, views = asked_views("sigmoid", [weight * (i == label) for i in range(4)])
    present = views.prediction[:, label].double().sigmoid()
    expected = -(present if weight > 0 else 1 - present).log()
    torch.testing.assert_close(terms_of(classifier, views).reconstruction, expected.float())


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_the_total_variation_of_a_target_is_that_of_its_probability(output: Output) -> None:
    classifier, views = asked_views(output, [0.0, 1.0, 0.0, 0.0], complement=1.0)
    settings: dict[str, Any] = {"distance": "total_variation", "complement": 1.0}
    found = terms_of(classifier, views, **settings)

    def probability(logits: Tensor | None) -> Tensor:
        assert logits is not None
        return (logits.softmax(1) if output == "softmax" else logits.sigmoid())[:, 1]

    torch.testing.assert_close(found.reconstruction, 1 - probability(views.prediction))
    told = probability(views.left_out) - probability(views.uninformed)
    torch.testing.assert_close(found.complement, told.abs())


def test_a_sure_answer_costs_nothing_and_a_sure_denial_stays_finite() -> None:
    classifier, views = asked_views("softmax", [0.0, 1.0, 0.0, 0.0])
    sure = torch.tensor([[0.0, 300.0, 0.0, 0.0]] * 4)
    torch.testing.assert_close(
        terms_of(classifier, replace(views, prediction=sure)).reconstruction, torch.zeros(4)
    )
    denied = terms_of(classifier, replace(views, prediction=-sure)).reconstruction
    torch.testing.assert_close(denied, torch.full((4,), 300 + math.log(3)))


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_of_a_target_the_left_out_view_tells_no_more_than_the_baseline_image(
    output: Output,
) -> None:
    classifier, views = asked_views(output, [0.0, 0.0, 1.0, 0.0], complement=0.7)
    found = terms_of(classifier, views, complement=0.7)
    left_out = classifier(perturb(views.images, 1 - views.mask, views.baseline))
    logits = classifier(views.baseline), left_out
    p, q = (classifier.probabilities(each.double())[:, 2] for each in logits)
    expected = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    expected = expected.float()
    torch.testing.assert_close(found.complement, expected, rtol=1e-4, atol=1e-6)
    assert (expected > 1e-3).any()
    without = terms_of(classifier, views)
    torch.testing.assert_close(found.loss, without.loss + 0.7 * expected)
