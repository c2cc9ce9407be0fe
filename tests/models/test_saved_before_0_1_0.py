"""Explainers saved with import paths, before version 0.1.0, load and give the same maps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import get_object
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier, custom_classifier
from saliency_vae.models import load_explainer, save_explainer
from saliency_vae.models.part_names import _OLD_PATHS, _PATHS

SAVED = Path(__file__).parents[1] / "data/saved_before_0_1_0"


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    """Images and what the code that saved the explainers gave for them."""
    with np.load(SAVED / "expected.npz") as arrays:
        return {name: torch.from_numpy(values) for name, values in arrays.items()}


@pytest.fixture(scope="module")
def images(expected: dict[str, Tensor]) -> Tensor:
    return expected["images"].float() / 255


@pytest.fixture(scope="module")
def classifier() -> FrozenClassifier:
    return custom_classifier(
        "tests.helpers.tiny_classifier.build",
        SAVED / "classifier.safetensors",
        mean=[0.0, 0.0, 0.0],
        std=[1.0, 1.0, 1.0],
    )


def test_an_image_explainer(images: Tensor, expected: dict[str, Tensor], tmp_path: Path) -> None:
    explainer = load_explainer(SAVED / "image")
    save_explainer(explainer, tmp_path)
    for loaded in (explainer, load_explainer(tmp_path)):
        posterior = loaded(images)
        torch.testing.assert_close(posterior.mean, expected["image_mean"], rtol=0, atol=1e-4)
        torch.testing.assert_close(posterior.stddev, expected["image_stddev"], rtol=0, atol=1e-4)
        torch.testing.assert_close(
            posterior.confidence, expected["image_confidence"], rtol=0, atol=1e-4
        )
        with pytest.raises(ValueError, match="those of earlier versions"):
            _ = posterior.out_of_depth
    assert load_explainer(tmp_path).config == explainer.config


def test_a_conditional_explainer(
    images: Tensor, expected: dict[str, Tensor], classifier: FrozenClassifier, tmp_path: Path
) -> None:
    explainer = load_explainer(SAVED / "conditional").attach_classifier(classifier)
    save_explainer(explainer, tmp_path)
    for loaded in (explainer, load_explainer(tmp_path).attach_classifier(classifier)):
        posterior = loaded(images)
        torch.testing.assert_close(posterior.mean, expected["mean"], rtol=0, atol=1e-4)
        torch.testing.assert_close(posterior.stddev, expected["stddev"], rtol=0, atol=1e-4)
        torch.testing.assert_close(posterior.confidence, expected["confidence"], rtol=0, atol=1e-4)
    refined = explainer.refine(images, classifier, steps=3)
    torch.testing.assert_close(refined.posterior.mean, expected["refined"], rtol=0, atol=1e-3)
    torch.testing.assert_close(refined.after, expected["objective"], rtol=1e-3, atol=0)


def test_its_settings_have_the_names_of_today(tmp_path: Path) -> None:
    explainer = load_explainer(SAVED / "conditional")
    assert explainer.config.mean_penalty == 0.25
    assert explainer.config.encoder["prior_mean_scale"] == 0.15
    save_explainer(explainer, tmp_path)
    text = (tmp_path / "config.json").read_text()
    saved = json.loads(text)
    assert saved["encoder"]["type"] == "conditional_unet"
    assert saved["classifier"]["builder"]["type"] == "custom"
    assert saved["data"]["type"] == "cluttered_digits"
    assert "_target_" not in text
    assert "saliency_vae." not in text.replace(saved["command"], "")


def test_every_name_leads_to_something_that_can_be_called() -> None:
    known = {name for names in _PATHS.values() for name in names}
    for paths in _PATHS.values():
        for path in paths.values():
            assert callable(get_object(f"saliency_vae.{path}"))
    assert set(_OLD_PATHS.values()) <= known
