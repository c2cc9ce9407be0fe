"""What is asked about in training: drawn by the square root of the probability, of the top five."""

import math

import pytest
import torch

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.training.targets import draw_target

DRAWS = 40_000


def shares(logits: list[float]) -> list[float]:
    """Share of each class among many draws."""
    torch.manual_seed(0)
    target = draw_target(torch.tensor([logits]).expand(DRAWS, -1))
    assert target.shape == (DRAWS, len(logits))
    assert target.sum(1).eq(1).all()
    assert target.amax(1).eq(1).all()
    return target.mean(0).tolist()


@pytest.mark.parametrize(
    "probabilities",
    [
        [0.5, 0.3, 0.2],
        [0.9, 0.1],
        [0.02, 0.4, 0.01, 0.3, 0.05, 0.15, 0.07],
        [0.997, 0.001, 0.001, 0.0005, 0.0003, 0.0002],
    ],
)
def test_shares_are_those_of_the_square_roots(probabilities: list[float]) -> None:
    most_probable = sorted(probabilities)[-5:]
    total = sum(math.sqrt(p) for p in most_probable)
    # A constant that all logits share changes nothing.
    found = shares([3 + math.log(p) for p in probabilities])
    for probability, share in zip(probabilities, found, strict=True):
        expected = math.sqrt(probability) / total if probability in most_probable else 0.0
        deviation = math.sqrt(expected * (1 - expected) / DRAWS)
        assert share == pytest.approx(expected, abs=4 * deviation), probability


def test_labels_are_drawn_by_the_root_of_their_own_probability_and_asked_as_decided() -> None:
    logits = [8.0, 3.0, -5.0]
    torch.manual_seed(0)
    target = draw_target(torch.tensor([logits]).expand(DRAWS, -1), "sigmoid")
    roots = [math.sqrt(1 / (1 + math.exp(-logit))) for logit in logits]
    for logit, root, share in zip(logits, roots, target.mean(0).tolist(), strict=True):
        expected = root / sum(roots)
        deviation = math.sqrt(expected * (1 - expected) / DRAWS)
        assert share == pytest.approx(math.copysign(expected, logit), abs=4 * deviation), logit
    assert target.abs().sum(1).eq(1).all()


def test_a_single_logit_is_asked_about_as_in_use() -> None:
    logits = torch.tensor([[-6.0], [6.0]])
    classifier = FrozenClassifier(torch.nn.Identity(), output="sigmoid")
    assert torch.equal(draw_target(logits, "sigmoid"), classifier.decide(logits))


def test_one_class_is_always_asked_about() -> None:
    assert shares([2.0]) == [1.0]


def test_each_image_is_asked_about_a_class_of_its_own_five() -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(500, 1000)
    target = draw_target(logits)
    highest = torch.zeros_like(logits).scatter(1, logits.topk(5).indices, 1.0)
    assert ((target * highest).sum(1) == 1).all()
    assert 0.3 < (target.argmax(1) == logits.argmax(1)).float().mean() < 0.9
    assert target.dtype == logits.dtype
