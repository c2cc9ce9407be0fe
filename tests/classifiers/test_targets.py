"""Targets against their definitions, label by label."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier, class_target, counted_passes
from saliency_vae.classifiers.targets import as_target, class_index

SOFTMAX, SIGMOID = (FrozenClassifier(nn.Identity(), output=o) for o in ("softmax", "sigmoid"))
LOGITS = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_softmax_asks_about_its_most_probable_class() -> None:
    target = SOFTMAX.decide(LOGITS)
    assert torch.equal(target, class_target(LOGITS.argmax(1), LOGITS))
    assert target.sum(1).eq(1).all()
    expected = LOGITS.softmax(1).amax(1)
    torch.testing.assert_close(SOFTMAX.probability(LOGITS, target), expected)
    torch.testing.assert_close(SOFTMAX.log_odds(LOGITS, target), expected.logit())


def test_independent_labels_are_asked_about_together() -> None:
    target = SIGMOID.decide(LOGITS)
    for row, asked, of_all, odds in zip(
        LOGITS.tolist(),
        target.tolist(),
        SIGMOID.probability(LOGITS, target).tolist(),
        SIGMOID.log_odds(LOGITS, target).tolist(),
        strict=True,
    ):
        present = [1 / (1 + math.exp(-z)) for z in row]
        decided = [p if p > 0.5 else 1 - p for p in present]
        assert asked == [1 if p > 0.5 else -1 for p in present]
        assert of_all == pytest.approx(math.prod(decided))
        assert odds == pytest.approx(sum(math.log(p / (1 - p)) for p in decided))


def test_one_label_is_asked_about_alone() -> None:
    target = class_target(torch.full((40,), 3), LOGITS)
    alone = SIGMOID.probability(LOGITS, target)
    torch.testing.assert_close(alone, LOGITS[:, 3].sigmoid())
    changed = LOGITS.clone()
    changed[:, [0, 1, 2, 4]] += 7
    torch.testing.assert_close(SIGMOID.probability(changed, target), alone)
    assert torch.equal(SIGMOID.keeps_decision(changed, target), LOGITS[:, 3] > 0)


@pytest.mark.parametrize("classifier", [SOFTMAX, SIGMOID])
def test_a_prediction_keeps_its_own_decision_and_no_other(classifier: FrozenClassifier) -> None:
    target = classifier.decide(LOGITS)
    assert classifier.keeps_decision(LOGITS, target).all()
    other = LOGITS.roll(1, 0)
    expected = (classifier.decide(other) == target).all(1)
    assert torch.equal(classifier.keeps_decision(other, target), expected)
    assert not expected.all()


def test_passes_are_the_images_that_any_copy_of_a_classifier_sees() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    first = FrozenClassifier(network, name="first")
    second = FrozenClassifier(network, name="second")
    images = torch.rand(5, 3, 2, 2)
    first(images)
    with counted_passes() as outer:
        first(images)
        with counted_passes() as inner:
            second(images[:2])
            first.forward_uncompiled(images)
    second(images)
    assert (outer.number, inner.number) == (12, 7)


NAMES = ["tabby, tabby cat", "tiger cat", "dog"]


def test_each_image_may_have_its_own_class_by_name() -> None:
    asked = as_target(["Dog", "tabby"], NAMES)
    assert callable(asked)
    assert asked(torch.zeros(2, 3)).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_a_class_that_is_called_by_a_number_is_meant_before_that_number() -> None:
    signs = ["10", "1", "stop"]
    assert [class_index(name, signs) for name in ("1", "10", "2", " 0 ")] == [1, 0, 2, 0]


@pytest.mark.parametrize(
    ("asked", "names", "message"),
    [
        ("tabbyy", NAMES, "called 'tabbyy'. Did you mean tabby?"),
        ("tiger cta", NAMES, "called 'tiger cta'. Did you mean tiger cat?"),
        ("dog", None, "have no names: give categories, or a number."),
        (["dog", "wolff"], NAMES, "called 'wolff'."),
        (1.5, NAMES, "Found torch.float32 of shape ()."),
        (["dog", 1], NAMES, "Found ['dog', 1]."),
        (3, NAMES, "Expected target in 0 to 2. Found 3."),
        ([0, -1], NAMES, "Found [0, -1]."),
        (torch.tensor([[1.0, -1.0, 0.0]]), NAMES, "asks about several classes."),
        (torch.tensor([[0.0, -1.0, 0.0]]), None, "asks about several classes."),
        (torch.zeros(1, 3), NAMES, "at least one of them not 0 for each image. Found others."),
    ],
)
def test_what_is_no_target_is_refused_with_a_way_out(
    asked: object, names: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        as_target(asked, names)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda logits: logits[:, 1].sum(), "Found ()."),
        (lambda logits: logits[:, :1], "Found (2, 1)."),
        (lambda logits: 0.5, "Found float."),
        (lambda logits: logits.softmax(-1), "asks about several classes."),
        (lambda logits: logits.argmax(-1), "argmax, detach or a comparison within it?)."),
    ],
    ids=["sum", "column", "number", "probabilities", "argmax"],
)
def test_a_function_that_says_something_else_is_refused(
    function: Callable[[Tensor], Any], message: str
) -> None:
    target = as_target(function)
    assert callable(target)
    with pytest.raises(ValueError, match=f"{re.escape(message)}$"):
        target(LOGITS[:2].clone().requires_grad_())


@pytest.mark.parametrize("weights", [[0.0, 0.0], [torch.nan, 1.0], [-torch.inf, 0.0]])
def test_weights_of_labels_that_ask_nothing_are_refused(weights: list[float]) -> None:
    expected = "Expected finite weights of the logits, at least one of them not 0"
    with pytest.raises(ValueError, match=expected):
        as_target(torch.tensor([[1.0, 0.0], weights]), output="sigmoid")


def test_weights_ask_about_several_labels_or_one_class() -> None:
    several = torch.tensor([[1.0, -1.0, 0.0, 0.0, 0.0]])
    assert as_target(several, output="sigmoid") is several
    one = class_target(torch.tensor([1, 2]), LOGITS[:2])
    assert as_target(one) is one
