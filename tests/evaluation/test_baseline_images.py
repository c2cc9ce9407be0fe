"""Baseline images by name, and which of them a training used."""

from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from saliency_vae.evaluation.baseline_images import BASELINE_IMAGES, noise, seen_in_training
from saliency_vae.metrics import InPainting, NoisyLinearImputation
from tests.conftest import blob_classifier

NODES: dict[str, dict[str, Any]] = {
    name: {"_target_": f"saliency_vae.perturbations.{name}"}
    for name in ("Blur", "Mean", "Noise", "Constant", "Other")
}


def mixture(*baselines: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": "saliency_vae.perturbations.Mixture", "baselines": list(baselines)}


def test_imputations_are_made_by_name() -> None:
    images, classifier = torch.rand(2, 3, 16, 16), blob_classifier()
    assert isinstance(BASELINE_IMAGES["inpaint"](images, classifier), InPainting)
    assert isinstance(BASELINE_IMAGES["road"](images, classifier), NoisyLinearImputation)


def test_noise_lies_around_the_mean_colour_and_is_reproducible() -> None:
    images = torch.tensor([0.3, 0.5]).view(2, 1, 1, 1) * torch.ones(2, 3, 60, 60)
    made = noise(images)
    assert torch.equal(made, noise(images))
    assert not torch.equal(made[0], made[1])
    assert float(made[1].mean()) == pytest.approx(0.5, abs=0.01)
    assert float(made[1].std()) == pytest.approx(0.24, abs=0.01)  # 0.25 before it is clipped
    assert float(made[0].mean()) < 0.35
    assert [float(made.min()), float(made.max())] == [0, 1]


@pytest.mark.parametrize(
    ("node", "seen"),
    [
        (NODES["Blur"], {"blur"}),
        ({**NODES["Blur"], "sigma": None}, {"blur"}),
        ({**NODES["Blur"], "sigma": 3.0}, {"blur", "light_blur"}),
        (NODES["Mean"], {"mean"}),
        (NODES["Noise"], {"noise"}),
        (NODES["Constant"], {"zero"}),
        ({**NODES["Constant"], "colour": [0.0, 0.0, 0.0]}, {"zero"}),
        ({**NODES["Constant"], "colour": [0.5, 0.4, 0.4]}, {"classifier_mean"}),
        (mixture(NODES["Blur"], NODES["Noise"]), {"blur", "noise"}),
        (mixture(NODES["Blur"], NODES["Other"]), {"blur"}),
        (mixture(NODES["Mean"], mixture(NODES["Constant"], NODES["Mean"])), {"mean", "zero"}),
    ],
)
def test_what_a_training_used(node: dict[str, Any], seen: set[str]) -> None:
    instantiate(node)  # it is a perturbation
    assert seen_in_training(node) == seen


@pytest.mark.parametrize("node", [None, {"_target_": "my_package.Fog"}])
def test_an_unknown_training_may_have_used_all_but_imputations(node: dict[str, Any] | None) -> None:
    assert seen_in_training(node) == BASELINE_IMAGES.keys() - {"inpaint", "road"}
    if node is not None:
        assert seen_in_training(mixture(NODES["Mean"], node)) == seen_in_training(None)
