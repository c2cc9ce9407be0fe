"""Photographs of every kind in Python, and what their explanations say was measured."""

import copy
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from saliency_vae import Explanation, FrozenClassifier, Preprocessing, load_explainer
from saliency_vae.inference.alternatives import DRAWS
from saliency_vae.inference.predict import draw_maps
from saliency_vae.models import Explainer
from saliency_vae.perturbations import Blur, Mean, Mixture, Noise, Other, blurred, perturb
from saliency_vae.runtime.text import as_percent
from saliency_vae.topk import top_pixels
from saliency_vae.visualization import FRACTIONS
from tests.helpers.tiny_classifier import build

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = [f"animal {index}" for index in range(10)]


@pytest.fixture(scope="module")
def classifier() -> FrozenClassifier:
    """A classifier that crops 32 x 32 pixels, and whose decision depends on the image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build()
    with torch.no_grad():
        network.get_parameter("6.weight").mul_(40)
    return FrozenClassifier(
        network,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        categories=NAMES,
        preprocessing=Preprocessing(resize_size=40, crop_size=(32, 32)),
    )


@pytest.fixture(scope="module")
def explainer(classifier: FrozenClassifier) -> Explainer:
    return load_explainer("universal", classifier)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """50 x 80 pixels: both sides are cropped."""
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 8, 3), dtype=np.uint8))
    return coarse.resize((80, 50), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def explanation(explainer: Explainer, photograph: Image.Image) -> Explanation:
    return explainer.explain(photograph, target="animal 3", samples=2, fraction=0.25)


def chw(photograph: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(photograph)).permute(2, 0, 1)


KINDS: dict[str, Callable[[Image.Image], Any]] = {
    "bytes": np.array,
    "float": lambda image: np.array(image) / 255,
    "float channels first": lambda image: np.array(image).transpose(2, 0, 1) / 255,
    "tensor": lambda image: chw(image) / 255,
    "half": lambda image: (chw(image) / 255).to(torch.float16),
    "tensor of bytes": chw,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_photograph_is_the_same(
    kind: str, explainer: Explainer, photograph: Image.Image, explanation: Explanation
) -> None:
    found = explainer.explain(KINDS[kind](photograph), target=3, fraction=0.25)
    assert (found.name, found.target) == ("image", "animal 3")
    np.testing.assert_array_equal(found.image, np.array(photograph))
    np.testing.assert_array_equal(found.mean, explanation.mean)
    assert found.measured == explanation.measured


def test_a_list_of_files_and_sizes_keeps_its_order(
    explainer: Explainer, photograph: Image.Image, tmp_path: Path
) -> None:
    photograph.convert("L").save(tmp_path / "grey.png")
    files = [tmp_path / "grey.png", str(tmp_path / "grey.png")]
    small = np.full((40, 36, 3), 90, dtype=np.uint8)
    found = explainer.explain([files[0], small, files[1]])
    assert [one.name for one in found] == [str(files[0]), "image 1", files[1]]
    assert [one.mean.shape for one in found] == [(50, 80), (40, 36), (50, 80)]
    np.testing.assert_array_equal(found[0].image, np.array(photograph.convert("L").convert("RGB")))
    np.testing.assert_allclose(found[0].mean, found[2].mean)
    assert explainer.explain([]) == []


def test_maps_are_nan_where_the_classifier_does_not_look(explanation: Explanation) -> None:
    seen = np.zeros((50, 80), dtype=bool)
    seen[5:45, 20:60] = True  # 32 of 40 pixels, as the shorter side of 50 is resized to 40
    maps = explanation.mean, explanation.stddev, explanation.inclusion_probability
    for values in (*maps, *explanation.samples):
        assert values.dtype == np.float32
        np.testing.assert_array_equal(np.isfinite(values), seen)
    assert explanation.samples.shape == (2, 50, 80)
    assert np.nanmin(explanation.stddev) > 0


def test_sufficiency_and_necessity_are_measured_on_the_views(
    explainer: Explainer, classifier: FrozenClassifier, explanation: Explanation
) -> None:
    x = torch.from_numpy(explanation.source.pixels)[None] / 255

    def probability(images: Tensor) -> float:
        return float(classifier(images).softmax(-1)[0, 3])

    decision = classifier(x).argmax()
    mean = explanation.maps[0]
    curve = {measured.fraction: measured for measured in explanation.curve}
    assert list(curve) == sorted({*FRACTIONS, 0.25})
    measured = [(mean, fraction, one) for fraction, one in curve.items()]
    measured += [(sample.scores, 0.25, sample.measured) for sample in explanation.drawn]
    assert len(measured) == len(FRACTIONS) + 1 + 2
    for scores, fraction, found in measured:
        mask = (scores >= scores.flatten().topk(round(fraction * 32**2)).values[-1])[None]
        kept, left_out = (perturb(x, m, blurred(x)) for m in (mask, ~mask))
        assert found.sufficiency == pytest.approx(probability(kept), abs=1e-5)
        fall = probability(x) - probability(left_out)
        assert found.necessity == pytest.approx(fall, abs=1e-5)
        assert found.decision_stays == (classifier(kept).argmax() == decision)
        assert found.decision_lost == (classifier(left_out).argmax() != decision)
    assert explanation.measured == curve[0.25]
    assert len({round(one.on_kept_view, 3) for one in curve.values()}) > 3


def test_the_views_are_classified_together(
    explainer: Explainer, photograph: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    forward = FrozenClassifier.forward

    def counted(self: FrozenClassifier, images: Tensor) -> Tensor:
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(FrozenClassifier, "forward", counted)
    explainer.explain(photograph, samples=3)
    views = 2 * (len(FRACTIONS) + 3)  # kept and left out; 16 at once on a CPU
    assert sizes == [1, 3 * DRAWS, 16, views - 16]


def test_samples_about_a_target_need_not_keep_the_decision() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = FrozenClassifier(network, name="colour")
    explainer = load_explainer("universal", classifier)
    noise = np.random.default_rng(19).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    explanation = explainer.explain(noise, samples=2, target=1, fraction=0.1)
    image, baseline = explanation.original.image[None], explanation.baseline[None]
    with torch.no_grad():
        drawn = draw_maps(explainer(image, 1), 2 * DRAWS, seed=0)[0]
        kept, mean = top_pixels(drawn, 0.1), top_pixels(explanation.maps[:1], 0.1)
        views = perturb(image.expand(len(kept), -1, -1, -1), kept, baseline)
        stays = classifier(views).argmax(-1) == classifier(image).argmax(-1)
    shared = (kept & mean).sum((-2, -1))
    least = int(shared.argmin())
    assert not stays[least]
    assert stays.any()
    assert explanation.samples_stay == pytest.approx(float(stays.float().mean()))
    assert torch.equal(explanation.drawn[0].scores, drawn[least])


def test_without_a_target_the_decision_is_measured(
    explainer: Explainer, photograph: Image.Image
) -> None:
    found = explainer.explain(photograph)
    label, probability = found.prediction[0]
    assert found.target is None
    assert found.measured.on_image == pytest.approx(probability)
    asked = explainer.explain(photograph, target=label)
    np.testing.assert_allclose(asked.mean, found.mean, atol=1e-5)
    assert asked.necessity == pytest.approx(found.necessity, abs=1e-4)


def test_a_score_is_reported_on_the_three_views(
    explainer: Explainer, classifier: FrozenClassifier, photograph: Image.Image, tmp_path: Path
) -> None:
    def margin(logits: Tensor) -> Tensor:
        return logits[:, 1] - logits[:, 2]

    found = explainer.explain([photograph] * 2, margin)[1]
    assert (found.target, found.sufficiency, found.necessity) == ("margin", None, None)
    views = found.original, found.kept, found.left_out
    images = torch.stack([view.image for view in views])
    values = [found.measured.on_image, found.measured.on_kept_view, found.measured.on_left_out_view]
    assert values == pytest.approx(margin(classifier(images)).tolist(), rel=1e-4, abs=1e-4)
    assert f"target margin; top 10 %: score {values[0]:.3g}, kept {values[1]:.3g}" in repr(found)
    found.save(tmp_path / "score.npz")
    with np.load(tmp_path / "score.npz") as arrays:
        assert np.isnan(arrays["sufficiency"])
        assert arrays["on_image"] == values[0]


def test_the_value_of_a_regression_is_explained(photograph: Image.Image) -> None:
    torch.manual_seed(0)
    last = nn.Linear(10, 1)
    regression = FrozenClassifier(nn.Sequential(build(), last), output="sigmoid")
    with torch.no_grad():
        last.bias.fill_(40)
    explainer = load_explainer("universal", regression)

    def age(outputs: Tensor) -> Tensor:
        return outputs[:, 0]

    found = explainer.explain(photograph, age)
    assert found.target == "age"
    expected = regression(found.original.image[None]).item()
    assert found.measured.on_image == pytest.approx(expected, rel=1e-4)
    assert expected > 30
    assert found.mean.std() > 0.01


def test_the_baseline_and_the_seed_can_be_chosen(
    explainer: Explainer, photograph: Image.Image
) -> None:
    before = torch.random.get_rng_state()
    found = explainer.explain(photograph, baseline=Mean(), samples=1, seed=1)
    colour = found.original.image.mean((-2, -1), keepdim=True)
    torch.testing.assert_close(found.baseline, colour.expand_as(found.baseline))
    again = explainer.explain(photograph, baseline=Mean(), samples=1, seed=1)
    np.testing.assert_array_equal(found.samples, again.samples)
    other = explainer.explain(photograph, baseline=Mean(), samples=1, seed=2)
    assert np.nanmax(np.abs(found.samples - other.samples)) > 0
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("baseline", [Noise(), Mixture([Noise(), Mean(), Blur()]), torch.rand_like])
def test_random_baseline_images_do_not_depend_on_other_photographs(
    baseline: Any, explainer: Explainer, photograph: Image.Image
) -> None:
    other = np.full((50, 80, 3), 90, dtype=np.uint8)
    first, second = explainer.explain([other, photograph], baseline=baseline, seed=3)
    alone = explainer.explain(photograph, baseline=baseline, seed=3)
    torch.testing.assert_close(second.baseline, alone.baseline, rtol=0, atol=0)
    assert second.sufficiency == pytest.approx(alone.sufficiency, abs=1e-5)
    assert not torch.equal(first.baseline, second.baseline)


def test_each_seed_draws_another_baseline_image(
    explainer: Explainer, photograph: Image.Image
) -> None:
    found = [explainer.explain(photograph, baseline=Noise(), seed=s).baseline for s in (0, 1, 0)]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_numbers_of_numpy_are_taken(
    explainer: Explainer, photograph: Image.Image, tmp_path: Path
) -> None:
    of_numpy = explainer.explain(
        photograph, fraction=np.float32(0.25), samples=np.int64(1), seed=np.uint8(2)
    )
    plain = explainer.explain(photograph, fraction=0.25, samples=1, seed=2)
    np.testing.assert_array_equal(of_numpy.samples, plain.samples)
    assert of_numpy.measured == plain.measured
    of_numpy.save(tmp_path / "numbers.json")
    steps = explainer.explain(photograph, refine_steps=np.int32(1), seed=2**63 - 1)
    assert steps.objective is not None
    explainer.explain(photograph, baseline=Noise(), samples=1, seed=-(2**63))


def test_a_baseline_that_leaves_the_range_a_little_is_clipped_and_drawn(
    explainer: Explainer, photograph: Image.Image
) -> None:
    found = explainer.explain(photograph, baseline=lambda images: 1.2 * torch.ones_like(images))
    assert found.baseline.max() == 1
    assert found.plot().size[0] > 0


def test_an_explanation_on_a_cpu_seeds_no_other_device(
    explainer: Explainer, photograph: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does its refinement: a training on a GPU may go on beside it."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    explainer.explain(photograph, refine_steps=1)
    assert seeded == []


def test_an_explanation_shows_and_saves_itself(explanation: Explanation, tmp_path: Path) -> None:
    for name in ("panel.png", "maps.npz", "numbers.json"):
        explanation.save(tmp_path / name)
    panel = explanation.plot()
    with Image.open(tmp_path / "panel.png") as saved:
        np.testing.assert_array_equal(np.array(saved), np.array(panel))
    with Image.open(BytesIO(explanation._repr_jpeg_())) as shown:
        assert shown.size == panel.size
    with np.load(tmp_path / "maps.npz") as arrays:
        np.testing.assert_array_equal(arrays["samples"], explanation.samples)
        assert arrays["sufficiency"] == explanation.sufficiency
        assert arrays["curve_fraction"].tolist() == sorted({*FRACTIONS, 0.25})
        assert arrays["samples_necessity"].shape == (2,)
        assert arrays["target"] == "animal 3"
        assert "estimated_confidence" not in arrays
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["necessity"] == explanation.necessity
    assert numbers["samples"][1]["decision_lost"] == explanation.drawn[1].measured.decision_lost
    label, probability = explanation.prediction[0]
    assert repr(explanation) == (
        f"<Explanation of image: decision {label} ({as_percent(probability)}), target animal 3 "
        f"({as_percent(explanation.measured.on_image)}); top 25 %: {explanation.measured}>"
    )
    with pytest.raises(ValueError, match=r"ends with \.png, \.npz, \.json\. Found .*map\.tiff"):
        explanation.save(tmp_path / "map.tiff")


@pytest.mark.parametrize(
    ("photograph", "settings", "message"),
    [
        (torch.randn(3, 40, 40), {}, r"Expected image in \[0, 1\].* Found values from -"),
        (torch.full((3, 40, 40), float("nan")), {}, "Found values from nan"),
        (torch.rand(2, 3, 40, 40), {}, r"Found \(2, 3, 40, 40\): a list"),
        (torch.rand(40, 40, 3), {}, r"Expected image to be \(3, H, W\)\. Found \(40, 40, 3\)"),
        (np.zeros((40, 40, 3), dtype=np.int64), {}, "uint8 or float. Found int64"),
        ([np.zeros((40, 40, 3)), 7], {}, "Expected image 1 to be a file, .* Found int"),
        (np.zeros((40, 40, 3)), {"target": "cat"}, "no class called 'cat'"),
        (np.zeros((40, 40, 3)), {"target": 10}, r"target in 0 to 9. Found 10"),
        (np.zeros((40, 40, 3)), {"target": [1, 2]}, r"one target .*Found \[1, 2\]"),
        (np.zeros((40, 40, 3)), {"fraction": 0}, r"fraction in \(0, 1\]. Found 0"),
        (np.zeros((40, 40, 3)), {"samples": 1.5}, "samples >= 0, a whole number. Found 1.5"),
        (np.zeros((40, 40, 3)), {"baseline": "blur"}, r"Mean\(\). Found 'blur'"),
        (np.zeros((40, 40, 3)), {"fraction": "10 %"}, r"fraction in \(0, 1\]. Found '10 %'"),
        (np.zeros((40, 40)), {}, r"\(H, W, 3\) or \(3, H, W\). Found \(40, 40\)"),
        (
            torch.rand(3, 40, 40).to("meta"),
            {},
            "Expected image to hold values. Found a tensor on meta",
        ),
        (np.zeros((40, 40, 3)), {"target": lambda logits: logits[0]}, r"Found \(10,\)"),
        (np.zeros((40, 40, 3)), {"seed": None}, "seed, a whole number. Found None"),
        (np.zeros((40, 40, 3)), {"seed": True}, "seed, a whole number. Found True"),
        (np.zeros((40, 40, 3)), {"seed": 2**70}, r"seed from .* to 2\*\*63 - 1. Found 11805"),
        (np.zeros((40, 40, 3)), {"fraction": True}, r"fraction in \(0, 1\]. Found True"),
        (np.zeros((40, 40, 3)), {"samples": True}, "samples >= 0, a whole number. Found True"),
        (np.zeros((40, 40, 3)), {"refine_steps": np.True_}, "refine_steps >= 0, .*True"),
        (np.zeros((40, 40, 3)), {"baseline": Other()}, "own image alone. Found Other with"),
        (np.zeros((40, 40, 3)), {"baseline": Mixture([Mean(), Other()])}, "Found Mixture with"),
        (np.ones((40, 40, 3)), {"baseline": lambda x: 255 * x}, "Found values from 255 to 255"),
        (np.zeros((40, 40, 3)), {"baseline": torch.mean}, r"images \(1, 3, 32, 32\). Found \(\)"),
    ],
)
def test_a_wrong_thing_is_refused_in_one_line(
    photograph: Any, settings: dict[str, Any], message: str, explainer: Explainer
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        explainer.explain(photograph, **settings)
    assert "\n" not in str(refused.value)


class Returns(nn.Module):
    """Returns something made of the logits of a network."""

    def __init__(self, network: nn.Module, made: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.made = network, made

    def forward(self, images: Tensor) -> Any:
        return self.made(self.network(images))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda logits: logits.softmax(-1), "Found probabilities, which sum to 1: leave out the"),
        (lambda logits: (logits, logits), "Found tuple: wrap it"),
        (lambda logits: logits[:, :, None, None], r"Found shape \(\d+, 10, 1, 1\): wrap it"),
        (lambda logits: logits[:, :1], r"Found shape \(\d+, 1\): .* output='sigmoid'"),
        (lambda logits: logits.mean(0, keepdim=True), r"Found shape \(1, 10\) for \d+ images: "),
        (torch.detach, "Returns to have a gradient. Found none"),
        (lambda logits: logits[:, :9], "Expected 9 categories, .* Found 10"),
        (lambda logits: logits * torch.inf, "finite logits. Found 10 of 10 not finite"),
    ],
    ids=[
        "probabilities",
        "tuple",
        "maps",
        "single",
        "batch",
        "detached",
        "a class less",
        "infinite",
    ],
)
def test_a_network_that_returns_no_logits_is_refused(
    made: Callable[[Tensor], Any], message: str
) -> None:
    classifier = FrozenClassifier(Returns(build(), made), categories=NAMES)
    explainer, image = load_explainer("universal", classifier), torch.rand(3, 32, 32)
    for explain in (lambda: explainer.explain(image), lambda: explainer(image[None])):
        with pytest.raises(ValueError, match=message):
            explain()


def test_a_network_may_keep_a_tensor_of_its_first_pass() -> None:
    kept: list[Tensor] = []

    def scaled(logits: Tensor) -> Tensor:
        kept[:] = kept or [torch.linspace(1, 2, 10)]
        return logits * kept[0]

    explainer = load_explainer("universal", FrozenClassifier(Returns(build(), scaled)))
    explainer.explain(torch.rand(3, 32, 32))


def test_probabilities_of_labels_are_refused() -> None:
    """As logits all of them would speak for their labels; a few logits may lie in [0, 1]."""
    classifier = FrozenClassifier(Returns(build(), torch.sigmoid), output="sigmoid")
    explainer, images = load_explainer("universal", classifier), torch.rand(2, 3, 32, 32)
    assert explainer(images[:1]).mean.isfinite().all()
    with pytest.raises(ValueError, match=r"which lie in \[0, 1\]: leave out the sigmoid within it"):
        explainer(images)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_and_networks_of_other_precisions(dtype: torch.dtype, explainer: Explainer) -> None:
    images = torch.rand(2, 3, 32, 32)
    images = images.to(dtype).float()  # what is left of them in this precision
    expected = explainer(images).mean
    torch.testing.assert_close(explainer(images.to(dtype)).mean, expected)
    network = copy.deepcopy(explainer.classifier.network).to(dtype)
    other = load_explainer("universal", FrozenClassifier(network, mean=[0.5] * 3, std=[0.25] * 3))
    # In bfloat16 a few pixels differ by tenths on some processors: the maps are compared as wholes.
    for found, wanted in zip(other(images).mean, expected, strict=True):
        assert torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1] > 0.95


def test_an_explainer_in_training_mode_explains_as_in_eval_mode(
    explainer: Explainer, photograph: Image.Image
) -> None:
    expected = explainer.explain(photograph).mean
    try:
        found = explainer.train().explain(photograph).mean
        assert explainer.training
    finally:
        explainer.eval()
    np.testing.assert_array_equal(found, expected)


def test_a_missing_file_and_a_missing_classifier_are_refused(
    explainer: Explainer, classifier: FrozenClassifier, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match=r"Expected an image file. Found .*nowhere\.jpg"):
        explainer.explain(tmp_path / "nowhere.jpg")
    with pytest.raises(ValueError, match=r"attach_classifier\(classifier\)"):
        load_explainer("universal").explain(np.zeros((40, 40, 3)))
    wrapped = r"Found Sequential: FrozenClassifier\(network, mean=MEAN, std=STD, categories=NAMES\)"
    with pytest.raises(ValueError, match=wrapped):
        load_explainer("universal", classifier.network)  # type: ignore[arg-type]


def test_sizes_that_no_network_takes_are_refused(classifier: FrozenClassifier) -> None:
    as_it_is = FrozenClassifier(classifier.network)
    assert as_it_is.name == "Sequential"
    explainer = load_explainer("universal", as_it_is)
    with pytest.raises(ValueError, match=r"Found 12 x 40. \(image\)"):
        explainer.explain(np.zeros((12, 40, 3)))
    with pytest.raises(ValueError, match=r"1024 pixels a side.*Preprocessing\(resize_size=256"):
        explainer.explain(np.zeros((40, 2000, 3)))
    whole = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32**2, 4)))
    with pytest.raises(ValueError, match="size that the classifier takes"):
        load_explainer("universal", whole).explain(np.zeros((40, 40, 3)))
