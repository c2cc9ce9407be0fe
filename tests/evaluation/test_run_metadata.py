"""How an evaluation was made, as its report shows it."""

import sys

import pytest
import torch

from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.run_metadata import (
    describe_run,
    hardware,
    protocol,
    recipe,
    versions,
)
from tests.conftest import Blobs, blob_classifier
from tests.models.test_explainer import configuration, trained_explainer

CONFIG = {
    "explainer": "outputs/it",
    "steps": 24,
    "baseline_images": ["blur", "zero"],
    "tolerance": 2.5,
    "own_mask_images": 32,
    "robustness_images": 3,
    "reference_images": 16,
    "posterior_images": 12,
    "reference_runs": 2,
    "ensemble": ["one"],
    "batch_size": 50,
    "seed": 7,
}


def test_recipe_names_every_part_with_its_settings() -> None:
    assert recipe(configuration(beta=0)) == (
        "test: UNet(channels=[4, 8]); KroneckerNormal(correlation=0.9); "
        "SoftTopK(fraction=[0.1, 0.3], temperature=0.1); Mean(); posterior mean_field; "
        "beta 0; complement 0.0; sharpness 1.0; mean_penalty 0.0; distance kl"
    )


def test_recipe_of_nested_parts_leaves_out_what_is_off() -> None:
    blur = {"_target_": "a.b.Blur", "sigma": 0}
    mixture = {"_target_": "a.b.Mixture", "baselines": blur, "weights": None, "hard": False}
    assert "Mixture(baselines=Blur(sigma=0));" in recipe(configuration(perturbation=mixture))


def test_protocol() -> None:
    text = protocol(CONFIG, 100)
    assert "24 steps" in text
    assert "baseline images: blur, zero;" in text
    assert "within 2.5 pixels" in text
    assert "3 independent runs" in text
    assert "batches of at most 50" in text
    assert "own mask on 32 images" in text


def test_a_check_of_more_images_than_there_are_takes_all() -> None:
    text = protocol(CONFIG, 10)
    assert "own mask on 10 images; infidelity and max-sensitivity on 3 images" in text
    assert "uncertainty of pixels on 10 images" in text
    assert "swap test on 10 images" in text


def test_metadata_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["evaluate.py", "explainer=outputs/it", "methods=[explainer,rise]"]
    )
    images = Images(Blobs(2, seed=0), "test images of blobs", 1, 0, torch.device("cpu"))
    found = describe_run(CONFIG, trained_explainer(), blob_classifier(), images)
    command = "python -m saliency_vae.evaluate explainer=outputs/it 'methods=[explainer,rise]'"
    assert found["command"] == command
    assert found["data"] == "test images of blobs"
    assert found["seed"] == "7"
    assert found["weights"].startswith("blobs (None, SHA-256 ")
    assert found["configuration"].startswith("test: UNet")
    assert all(isinstance(value, str) for value in found.values())


def test_versions_and_hardware() -> None:
    assert f"torch {torch.__version__.partition('+')[0]}" in versions()
    assert f"threads of torch: {torch.get_num_threads()}" in hardware(torch.device("cpu"))
    assert hardware(torch.device("meta")) == "meta"
