"""What an image causes makes it broken; what the program does wrong is an error."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier, counted_passes
from saliency_vae.data import Preprocessing
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.inference.alternatives import DRAWS
from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.inference.predict import BatchExplainer, ExplainSettings, draw_maps
from saliency_vae.models import ConfidenceNetwork, Explainer, UNet
from saliency_vae.perturbations import Mean, Noise
from saliency_vae.topk import top_pixels
from saliency_vae.training.depth import fit_depth
from saliency_vae.visualization import Explanation, InputImage
from saliency_vae.visualization.explanation_files import arrays, summary
from saliency_vae.visualization.read_back import read_back

SIZE = 24


class BreaksOnBlack(nn.Module):
    """Logits that are not numbers for a black image."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((-2, -1))
        return means / means


def explainer() -> Explainer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Explainer(
            UNet([4, 8]),
            prior=partial(KroneckerNormal, correlation=0.9),
            confidence=ConfidenceNetwork(3, width=4),
        )
        nn.init.normal_(made.get_parameter("encoder.head.weight"), std=0.5)
    return made.eval().requires_grad_(False)


def explain(network: nn.Module, perturbation: nn.Module | None = None) -> BatchExplainer:
    return BatchExplainer(
        explainer(),
        FrozenClassifier(network, name="mine"),
        perturbation or Mean(),
        ExplainSettings(fraction=0.1, samples=2),
    )


def test_a_classifier_that_takes_no_image_at_all_is_no_broken_image() -> None:
    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("a mistake in the network")

    explaining = explain(Wrong())
    explaining.classifier.preprocessing = Preprocessing(crop_size=(SIZE, SIZE))
    with pytest.raises(ValueError, match=r"Found 24 x 24: a mistake in the network"):
        explaining([image("a")])


def image(name: str, value: int | None = None, size: int = SIZE) -> InputImage:
    """An image of one grey level, or of noise."""
    noise = np.random.default_rng(0).integers(1, 256, (3, size, size), dtype=np.uint8)
    pixels = noise if value is None else np.full_like(noise, value)
    return InputImage(name, pixels, pixels, (size, size), Preprocessing(), Path(name))


def test_the_kept_views_show_the_top_pixels_over_the_baseline_image() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    (found,) = explain(network)([image("a")])
    assert isinstance(found, Explanation)
    assert len(found.drawn) == 2
    original = torch.from_numpy(found.source.pixels) / 255
    torch.testing.assert_close(found.original.image, original, rtol=0, atol=0)
    views = [(found.maps[0], found.kept), *((s.scores, s.kept) for s in found.drawn)]
    for scores, kept in views:
        top = scores >= scores.flatten().topk(round(0.1 * SIZE**2)).values[-1]
        expected = torch.where(top, original, original.mean((-2, -1), keepdim=True))
        torch.testing.assert_close(kept.image, expected)
        probabilities = kept.image.mean((-2, -1)).softmax(0)
        torch.testing.assert_close(kept.probabilities, probabilities)
        assert kept.prediction[0] == pytest.approx(
            (f"class {probabilities.argmax()}", float(probabilities.max()))
        )


def test_samples_are_alternatives_that_keep_the_decision() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    explaining = explain(network)
    (found,) = explaining([image("a")])
    assert isinstance(found, Explanation)
    with torch.no_grad():
        pixels = torch.from_numpy(found.source.pixels)[None] / 255
        drawn = draw_maps(explaining.explainer(pixels), DRAWS * 2, seed=0)[0]
        masks = top_pixels(drawn, 0.1)
        views = torch.where(masks[:, None], pixels, pixels.mean((-2, -1), keepdim=True))
        stays = network(views).argmax(1) == network(pixels).argmax(1)
    assert found.samples_stay is not None
    assert found.samples_stay == pytest.approx(float(stays.float().mean()))
    assert 0 < found.samples_stay < 1
    places = [int((drawn == one.scores).all((-2, -1)).nonzero()) for one in found.drawn]
    mean = top_pixels(found.maps[:1], 0.1)
    shared = [float((masks[place] & mean).sum() / mean.sum()) for place in places]
    assert found.overlaps == pytest.approx(shared)
    wanted = [n for n in range(len(drawn)) if stays[n]]
    assert places[0] == min(wanted, key=lambda n: int((masks[n] & mean).sum()))
    assert stays[places].all() == (len(wanted) > 1)
    assert [one["overlap"] for one in summary(found)["samples"]] == found.overlaps
    again = read_back(arrays(found), found.source, found.baseline)
    assert (again.overlaps, again.samples_stay) == (found.overlaps, found.samples_stay)


def test_an_image_unlike_the_trainings_is_said_so_in_every_output() -> None:
    explaining = explain(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert explaining.explainer.confidence is not None
    (unknown,) = explaining([image("noise")])
    assert isinstance(unknown, Explanation)
    assert unknown.out_of_depth is None
    assert "out_of_depth" not in arrays(unknown)
    greys = torch.linspace(0.2, 0.8, 40)[:, None, None, None].expand(-1, 3, SIZE, SIZE)
    fit_depth(
        explaining.explainer.confidence.depth, explaining.explainer.confidence.features(greys)
    )
    for found, unlike in zip(explaining([image("noise"), image("grey", 128)]), (1, 0), strict=True):
        assert isinstance(found, Explanation)
        assert found.out_of_depth is bool(unlike)
        assert arrays(found)["out_of_depth"] is bool(unlike)
        assert summary(found)["out_of_depth"] is bool(unlike)
        assert read_back(arrays(found), found.source, found.baseline).out_of_depth is bool(unlike)
        assert ("unlike the training's images" in repr(found)) == unlike


def test_an_explanation_that_is_not_finite_breaks_its_own_image_only() -> None:
    whole, broken = explain(BreaksOnBlack())([image("a"), image("b", value=0)])
    assert isinstance(whole, Explanation)
    assert whole.is_finite()
    measured = replace(whole.measured, on_kept_view=math.nan)
    assert not replace(whole, measured=measured).is_finite()
    assert isinstance(broken, BrokenImage)
    assert broken.name == "b"
    assert "finite" in broken.reason


def test_a_resumed_part_of_a_batch_gets_the_same_random_baseline_images() -> None:
    explaining = explain(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), Noise())
    images = [image("a"), image("b", 90), image("c", 90)]
    whole, resumed = explaining(images), explaining(images[1:])
    for found, again in zip(whole[1:], resumed, strict=True):
        assert isinstance(found, Explanation)
        assert isinstance(again, Explanation)
        assert torch.equal(found.baseline, again.baseline)


def test_a_size_that_the_classifier_does_not_take_breaks_the_image() -> None:
    of_one_size = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 3))
    (whole,) = explain(of_one_size)([image("a")])
    assert isinstance(whole, Explanation)
    broken = explain(of_one_size)([image("b", size=20), image("c", size=20)])
    for name, found in zip("bc", broken, strict=True):
        assert isinstance(found, BrokenImage)
        assert found.name == name
        assert found.reason.startswith("Expected a size that the classifier takes. Found 20 x 20: ")
        assert "mat1 and mat2" in found.reason


@pytest.mark.parametrize("error", [ValueError, RuntimeError, torch.OutOfMemoryError])
def test_an_error_of_the_program_is_not_a_broken_image(error: type[Exception]) -> None:
    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise error("a mistake in the program")

    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(error, match="a mistake"):
        explain(network, Wrong())([image("a")])


def test_a_full_memory_is_not_a_broken_image() -> None:
    class Full(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        explain(Full())([image("a")])


@pytest.mark.parametrize("curve", [True, False])
def test_the_curve_can_be_left_out(curve: bool) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    alone = replace(explain(network), settings=ExplainSettings(fraction=0.15, curve=curve))
    with counted_passes() as passes:
        (found,) = alone([image("a")])
    assert isinstance(found, Explanation)
    assert passes.number == 1 + 2 * len(found.curve)
    assert len(found.curve) == (8 if curve else 1)
    assert found.measured in found.curve
