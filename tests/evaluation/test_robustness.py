"""Captum's metrics, on a linear classifier whose infidelity is known."""

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.baselines import Method, Oracle
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.data.batch import Batch
from saliency_vae.evaluation.methods import Methods
from saliency_vae.evaluation.progress import Progress
from saliency_vae.evaluation.robustness import DRAWS, RADIUS, robustness, with_robustness
from saliency_vae.evaluation.scores import Scores
from tests.conftest import blob_classifier, blobs


class Slope(nn.Module):
    """One logit, linear in the image; its weights are the true explanation."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
        self.weights = nn.Parameter(1e-3 * weights)

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.weights).sum((1, 2, 3))[:, None]


SLOPE = FrozenClassifier(Slope(), name="slope", output="sigmoid")


def weights(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    network = classifier.network
    assert isinstance(network, Slope)
    return network.weights.detach().expand(len(batch["image"]), -1, -1)


def constant(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return torch.ones_like(batch["image"][:, 0])


def brightness(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return batch["image"].mean(1)


def test_the_weights_of_a_linear_classifier_are_faithful() -> None:
    batch: Batch = {"image": blobs(4)}
    faithful = robustness(weights, batch, SLOPE, seed=0)["infidelity"]
    other = robustness(constant, batch, SLOPE, seed=0)["infidelity"]
    assert faithful.shape == (4,)
    assert (faithful < 1e-3 * other).all()


def test_sensitivity_is_the_largest_relative_change() -> None:
    batch: Batch = {"image": blobs(4)}
    none = robustness(constant, batch, SLOPE, seed=0)["sensitivity"]
    assert torch.equal(none, torch.zeros(4))
    some = robustness(brightness, batch, SLOPE, seed=0)["sensitivity"]
    size = batch["image"].mean(1).flatten(1).norm(dim=1)
    bound = RADIUS * 16 / size  # no pixel moves by more
    assert (some > 0.2 * bound).all()
    assert (some <= bound).all()


def test_masks_stay_with_their_images() -> None:
    """The oracle's map does not change with the image, nor may the mask that it is given."""
    masks = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1)) > 0.8
    found = robustness(Oracle(), {"image": blobs(3), "mask": masks}, SLOPE, seed=0)
    assert torch.equal(found["sensitivity"], torch.zeros(3))


def test_random_numbers_stay_as_they_were() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = robustness(brightness, {"image": blobs(2)}, SLOPE, seed=0)
    assert torch.equal(torch.rand(3), expected)
    second = robustness(brightness, {"image": blobs(2)}, SLOPE, seed=0)
    for metric, values in first.items():
        assert torch.equal(values, second[metric])


def test_no_method_explains_batches_larger_than_the_one_given() -> None:
    sizes: list[int] = []

    def spy(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        sizes.append(len(batch["image"]))
        return brightness(batch, classifier)

    robustness(spy, {"image": blobs(3)}, SLOPE, seed=0)
    assert set(sizes) == {3}
    assert len(sizes) >= 1 + DRAWS


def test_scores_gain_two_metrics() -> None:
    by_name: dict[str, Method] = {"constant": constant, "brightness": brightness, "slow": constant}
    methods = Methods(by_name, passes={"constant": 0, "brightness": 1, "slow": 1000})
    before = Scores(seed=3)
    batch: Batch = {"image": blobs(2)}
    scores = with_robustness(before, methods, batch, blob_classifier(), Progress())
    assert {metric: list(by) for metric, by in scores.values.items()} == {
        "infidelity": ["constant", "brightness"],
        "sensitivity": ["constant", "brightness"],
    }
    expected = robustness(brightness, {"image": blobs(2)}, blob_classifier(), seed=3)
    for metric, values in expected.items():
        assert torch.equal(scores.values[metric]["brightness"], values)
    assert scores.left_out == ()
    assert before.values == {}


def test_without_captum_they_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_vae.runtime.extras.find_spec", lambda name: None)
    batch: Batch = {"image": blobs(2)}
    scores = with_robustness(
        Scores(), Methods({"constant": constant}), batch, blob_classifier(), Progress()
    )
    assert scores.values == {}
    (line,) = scores.left_out
    assert "saliency-vae[captum]" in line
