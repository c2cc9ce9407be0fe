"""What the page computes and draws, without a browser and without Gradio."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.app.answers import PageAnswers
from saliency_vae.app.pictures import MAPS, bars, map_tile, photograph, view_tiles
from saliency_vae.data import Preprocessing
from saliency_vae.perturbations import blurred, perturb
from tests.helpers.tiny_classifier import build

NAMES = ["cat", "dog", "<hen>", *"abcdefg"]


def answers(preprocessing: Preprocessing | None = None) -> PageAnswers:
    torch.manual_seed(0)
    classifier = FrozenClassifier(
        build(),
        categories=NAMES,
        preprocessing=preprocessing or Preprocessing(40, (32, 32)),
    )
    return PageAnswers(load_explainer("universal", classifier), samples=3)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(noise).resize((120, 90), Image.Resampling.BICUBIC).save(path)
    return str(path)


def test_other_methods_are_asked_the_same_question(photo: str) -> None:
    page = answers()
    explained = page.explain(photo, 2, 0.2)
    found = {one.method: one for one in page.compare(explained, 2)}
    assert set(found) == {"SmoothGrad", "Grad-CAM"}
    image, classifier = explained.original.image[None], page.classifier
    for one in found.values():
        assert one.map is not None
        assert one.measured is not None
        assert one.map.shape == (32, 32)
        k = round(0.2 * 32 * 32)
        mask = torch.zeros(32 * 32)
        mask[one.map.flatten().topk(k).indices] = 1
        kept = perturb(image, mask.view(1, 32, 32), blurred(image))
        expected = classifier.probabilities(classifier(kept))[0, 2].item()
        assert one.measured.on_kept_view == pytest.approx(expected, abs=0.02)
        assert one.measured.on_image == pytest.approx(explained.measured.on_image, abs=1e-5)
    others = page.compare(explained, 3)
    assert not torch.equal(found["Grad-CAM"].map, others[1].map)  # type: ignore[arg-type]


def test_a_method_that_does_not_fit_says_why(photo: str) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    classifier = FrozenClassifier(flat, categories=NAMES, preprocessing=Preprocessing(40, (32, 32)))
    page = PageAnswers(load_explainer("universal", classifier))
    *_, cam = page.compare(page.explain(photo, None, 0.1), None)
    assert (cam.method, cam.map) == ("Grad-CAM", None)
    assert "nn.Conv2d" in cam.reason


@pytest.mark.parametrize(
    ("preprocessing", "size"),
    [
        (Preprocessing(40, (32, 32)), (256, 256)),  # eight times as fine
        (Preprocessing((40, 60), (40, 60)), (320, 480)),
        (Preprocessing(), (360, 480)),
    ],
)
def test_all_tiles_show_the_same_field_of_view(
    preprocessing: Preprocessing, size: tuple[int, int], photo: str
) -> None:
    explained = answers(preprocessing).explain(photo, None, 0.2)
    shown = photograph(explained)
    assert shown.shape == (3, *size)
    seen = torch.from_numpy(explained.source.pixels).float()
    coarse = nn.functional.interpolate(shown[None].float(), seen.shape[1:], mode="area")[0]
    assert (coarse - seen).abs().mean() < 8  # of 255
    for kind in MAPS:
        height, width, _ = map_tile(explained, kind, shown).shape
        assert abs(height - size[0]) <= 6
        assert abs(width - size[1]) <= 6
    kept, left_out = view_tiles(explained, shown)
    mask = (kept == shown.permute(1, 2, 0).numpy()).all(-1)
    assert mask.mean() == pytest.approx(0.2, abs=0.03)
    assert (left_out[~mask] == shown.permute(1, 2, 0).numpy()[~mask]).mean() > 0.95


def test_a_photograph_too_long_for_a_finer_view_is_shown_as_the_classifier_sees_it(
    monkeypatch: pytest.MonkeyPatch, photo: str
) -> None:
    page = answers()
    monkeypatch.setattr("saliency_vae.data.preprocessing._MOST_PIXELS", 40 * 60)
    explained = page.explain(photo, None, 0.2)
    shown = photograph(explained)
    np.testing.assert_array_equal(shown[:, ::8, ::8], explained.source.pixels)
    assert shown.shape == (3, 256, 256)


def test_bars_name_a_label_only_if_the_probability_is_its_own(photo: str) -> None:
    """A decision against a label has the probability that it is absent."""
    linear = nn.Linear(3 * 32 * 32, 1)
    flat = nn.Sequential(nn.Flatten(), linear)
    nn.init.zeros_(linear.weight)
    preprocessing = Preprocessing(40, (32, 32))
    for bias, said in ((3.0, "“dog”"), (-3.0, "“the decision on all labels”")):
        nn.init.constant_(linear.bias, bias)
        classifier = FrozenClassifier(
            flat, output="sigmoid", categories=["dog"], preprocessing=preprocessing
        )
        page = PageAnswers(load_explainer("universal", classifier))
        assert f"Probability of {said} on" in bars(page.explain(photo, None, 0.1))


def test_bars_say_what_was_measured_and_escape_names(photo: str) -> None:
    explained = answers().explain(photo, 2, 0.05)
    measured = replace(explained.measured, on_image=0.5, on_kept_view=0.25, on_left_out_view=0.75)
    written = bars(replace(explained, measured=measured))
    assert "&lt;hen&gt;" in written
    assert "<hen>" not in written
    for text in ("the kept 5 % alone", "width:25.0%", "necessity: rises by 25 points"):
        assert text in written
