"""Each explainer is compared with the gradient that needs no training, and says so for ever."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.models import load_explainer, save_explainer
from saliency_vae.models.model_card import model_card
from saliency_vae.models.undertrained import GAIN, GAIN_HIGH, GAIN_LOW, undertrained
from saliency_vae.perturbations import Noise
from saliency_vae.training.comparison import as_line, compare_with_gradient
from saliency_vae.training.module import VariationalSaliency
from saliency_vae.training.panels import draw_explanations
from tests.conftest import Blobs, MakeModule, objective
from tests.helpers import tiny_universal
from tests.models.test_explainer import trained_explainer

WORSE = {GAIN: 0.01, GAIN_LOW: -0.02, GAIN_HIGH: 0.04}


class Fixed(nn.Module):
    """An encoder whose mean is brightness, the right map of blobs, or darkness."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, images: Tensor) -> Tensor:
        mean = self.sign * images.mean(1)
        return torch.stack([mean, torch.zeros_like(mean)], dim=1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_good_map_gains_and_its_opposite_loses(make_module: MakeModule, sign: float) -> None:
    module = make_module()
    module.explainer.encoder = Fixed(sign)
    found = compare_with_gradient(module, Blobs(40, seed=4), 32)
    assert found[GAIN] == pytest.approx(found["val/insertion"] - found["val/gradient_insertion"])
    assert found[GAIN_LOW] <= found[GAIN] <= found[GAIN_HIGH]
    if sign > 0:
        assert found["val/insertion"] > 0.85
    else:
        assert found[GAIN_HIGH] < 0
        assert undertrained(found) is not None
    assert f"{found[GAIN]:+.3f} [" in as_line(found)
    assert compare_with_gradient(module, Blobs(40, seed=4), 32) == found


def largest_pass(module: VariationalSaliency) -> list[int]:
    """Numbers of images that the classifier sees at once from now on."""
    seen: list[int] = []
    module.classifier.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    return seen


def test_no_more_images_at_once_than_a_step_of_the_training_takes(make_module: MakeModule) -> None:
    module = make_module(objective=objective(perturbation=Noise()))
    whole = compare_with_gradient(module, Blobs(40, seed=4), 32)
    seen = largest_pass(module)
    assert compare_with_gradient(module, Blobs(40, seed=4), 3) == pytest.approx(whole, abs=1e-5)
    assert max(seen) == 3


def test_pictures_are_drawn_from_as_many_images_at_once(
    make_module: MakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[SaliencyPosterior] = []
    monkeypatch.setattr(
        "saliency_vae.training.panels.explanation_figure",
        lambda images, posterior, baseline, **_: shown.append(posterior),
    )
    module = make_module("correlated")
    classifier = module.classifier
    module.explainer = tiny_universal.build(classifier)
    seen = largest_pass(module)
    for batch_size in (3, 8):
        draw_explanations(module, Blobs(40, seed=4), 8, batch_size=batch_size)
        if batch_size == 3:
            assert max(seen) <= 2 * 2 * 3  # two levels of two copies
    parts, whole = shown
    assert type(parts) is type(whole)
    assert parts.mean.shape == (8, 16, 16)


def test_a_single_image_has_no_interval(make_module: MakeModule) -> None:
    module = make_module()
    module.explainer.encoder = Fixed(1.0)
    found = compare_with_gradient(module, Blobs(1, seed=4), 32)
    assert found.keys() == {"val/insertion", "val/gradient_insertion", GAIN}
    assert as_line(found).endswith(
        f"difference {found[GAIN]:+.3f}, without an interval, which takes at least 5 validation "
        "images."
    )
    assert "not known whether this explainer is better" in str(undertrained(found))


def test_loading_and_the_card_repeat_the_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    explainer = trained_explainer()
    explainer.record(metrics=WORSE)
    save_explainer(explainer, tmp_path)
    with caplog.at_level(logging.WARNING):
        loaded = load_explainer(tmp_path)
    (record,) = caplog.records
    assert "not better than the classifier's gradient alone" in record.message
    assert "+0.010 [-0.020, +0.040]" in record.message
    assert "\n" not in record.message
    assert "not better than the classifier's gradient alone" in model_card(loaded.config)
    better = replace(loaded.config, metrics=WORSE | {GAIN_LOW: 0.001})
    assert "not better" not in model_card(better)
