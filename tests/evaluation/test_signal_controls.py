"""Explainers without their classifier's signals, and with those of a randomised one."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.randomised import randomised_classifier
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.evaluation.methods import ExplainerMethod, role_of
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.signal_controls import (
    RandomisedSignals,
    ZeroedSignals,
    signal_controls,
)
from saliency_vae.models import ConditionalUNet, Explainer, PaperEncoder, find_feature_maps
from tests.conftest import blobs
from tests.helpers.tiny_classifier import build

IMAGES = blobs(4)


def classifier(seed: int = 0) -> FrozenClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FrozenClassifier(build(), name="tiny")


def explainer(explained: FrozenClassifier) -> Explainer:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = ConditionalUNet(
            (8, 16, 16), features=find_feature_maps(explained, IMAGES), prior_mean_scale=0.3
        )
        for parameter in encoder.parameters():  # at first no feature map reaches the result
            torch.nn.init.normal_(parameter, std=0.3)
    made = Explainer(encoder, prior=partial(KroneckerNormal, correlation=0.5)).eval()
    return made.attach_classifier(explained)


def test_zeroed_signals_leave_what_the_image_alone_shows() -> None:
    one, other = classifier(0), classifier(5)
    explained = explainer(one)
    zeroed = ZeroedSignals(explained)
    maps = zeroed({"image": IMAGES}, one)
    assert torch.equal(maps, zeroed({"image": IMAGES}, other))
    mine = ExplainerMethod(explained)
    assert not torch.equal(mine({"image": IMAGES}, one), mine({"image": IMAGES}, other))
    assert isinstance(explained.encoder, ConditionalUNet)
    joined: list[list[Tensor]] = [[torch.zeros(4, 2, 16, 16)], [], []]
    with torch.no_grad():
        for index, scale in enumerate(explained.encoder.scales.values()):
            name = list(explained.encoder.scales)[index]
            channels = find_feature_maps(one, IMAGES)[name]["channels"]
            side = 16 // 2**scale
            blank = torch.zeros(4, channels, side, side)
            joined[scale].append(explained.encoder.lateral[index](blank))
        expected = explained.encoder.unet(IMAGES, joined)[:, 0]
    torch.testing.assert_close(maps, expected)


def test_randomised_signals_are_those_of_the_shuffled_classifier() -> None:
    explained = explainer(classifier())
    maps = RandomisedSignals(explained)({"image": IMAGES}, classifier())
    shuffled = randomised_classifier(classifier())
    expected = explainer(classifier()).attach_classifier(shuffled, force=True)(IMAGES).mean
    torch.testing.assert_close(maps, expected)
    original = explained(IMAGES).mean
    assert (maps - original).abs().max() > 0.01 * original.std()


def test_controls_leave_explainer_and_classifier_as_they_were() -> None:
    one = classifier()
    explained = explainer(one)
    before, weights = explained(IMAGES).mean, copy.deepcopy(one.state_dict())
    for control in signal_controls(explained).values():
        control({"image": IMAGES}, classifier(5))
        assert explained.classifier is one
    assert torch.equal(explained(IMAGES).mean, before)
    assert all(torch.equal(weights[name], found) for name, found in one.state_dict().items())


def test_the_shuffled_classifier_follows_the_classifier() -> None:
    control = RandomisedSignals(explainer(classifier()))
    first = control({"image": IMAGES}, classifier())
    assert not torch.equal(first, control({"image": IMAGES}, classifier(5)))
    torch.testing.assert_close(first, control({"image": IMAGES}, classifier()))


def test_controls_have_names_and_the_role_of_controls() -> None:
    controls = signal_controls(explainer(classifier()))
    assert list(controls) == ["zeroed_signals", "randomised_signals"]
    assert {role_of(control) for control in controls.values()} == {Role.CONTROL}


def test_an_explainer_that_sees_the_image_alone_has_no_signals() -> None:
    alone = Explainer(PaperEncoder((4,)), prior=partial(KroneckerNormal, correlation=0.5))
    assert signal_controls(alone) == {}


@pytest.mark.parametrize("control", signal_controls(explainer(classifier())).values())
def test_targets_are_refused(control: ZeroedSignals | RandomisedSignals) -> None:
    with pytest.raises(ValueError, match="Expected target=None"):
        control({"image": IMAGES, "target": torch.eye(10)[:4]}, classifier())
