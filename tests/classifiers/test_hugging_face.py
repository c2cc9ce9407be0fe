"""Models of transformers: a tiny one of random weights is saved and loaded, without a network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.classifiers import build_classifier, huggingface_classifier
from saliency_vae.data import Preprocessing
from tests.classifiers.test_classifiers import picture

transformers: Any = pytest.importorskip("transformers")
NAMES = ["cat", "dog", "hen"]


def tiny(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        id2label=dict(enumerate(NAMES)),
        **settings,
    )
    model: nn.Module = transformers.ViTForImageClassification(config)
    return model


def processor(kind: str = "ViTImageProcessor", **settings: Any) -> Any:
    return getattr(transformers, kind)(**({"size": {"height": 32, "width": 32}} | settings))


def save_tiny_model(directory: Path) -> None:
    tiny().save_pretrained(directory)  # type: ignore[operator]  # of transformers
    processor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]).save_pretrained(directory)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_tiny_model(tmp_path)
    return tmp_path


def test_a_directory_is_loaded_with_its_processor_and_explained(directory: Path) -> None:
    classifier = huggingface_classifier(str(directory))
    assert classifier.categories == NAMES
    assert classifier.preprocessing == Preprocessing((32, 32), (32, 32), "bilinear")
    assert classifier.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert classifier.output == "softmax"
    image = picture(90, 60)
    pixels = classifier.preprocessing(image)[None].float() / 255
    given = processor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    expected = tiny().eval()(**given(images=[image], return_tensors="pt")).logits
    torch.testing.assert_close(classifier(pixels), expected, atol=0.01, rtol=0)
    explainer = load_explainer("universal", classifier)
    first, second = (explainer(pixels, target=name).mean for name in ("hen", "cat"))
    assert first.shape == (1, 32, 32)
    assert not torch.allclose(first, second)
    path = "saliency_vae.classifiers.builders.huggingface_classifier"
    rebuilt = build_classifier({"_target_": path, "name": str(directory)})
    assert not rebuilt.identity().differences(classifier.identity())


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("ViTImageProcessor", {"resample": 3}, ((32, 32), "bicubic")),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 40}}, (40, "bicubic")),
        (
            "ConvNextImageProcessor",
            {"size": {"shortest_edge": 32}, "crop_pct": 0.8},
            (40, "bicubic"),
        ),
        (
            "ViTImageProcessor",
            {"do_rescale": False, "image_mean": [99.0] * 3},
            ((32, 32), "bilinear"),
        ),
        ("ViTImageProcessor", {"do_normalize": False}, ((32, 32), "bilinear")),
    ],
)
def test_pixels_are_those_of_the_processor(
    kind: str, settings: dict[str, Any], expected: tuple[Any, str]
) -> None:
    crop = {"crop_size": {"height": 32, "width": 32}} if kind.startswith("CLIP") else {}
    given = processor(kind, **settings, **crop)
    classifier = FrozenClassifier.from_transformers(tiny(), given)
    found = classifier.preprocessing
    assert (found.resize_size, found.interpolation) == expected
    image = picture(80, 120)
    seen = (found(image).float() / 255 - classifier.mean) / classifier.std
    theirs = given(images=[image], return_tensors="pt")["pixel_values"][0]
    level = (1 / 255 / classifier.std).max()
    assert (seen - theirs).abs().max() <= 2.01 * level


@pytest.mark.parametrize("changed", [{"do_flip_channel_order": True}, {"do_pad": True}])
def test_a_processor_that_cannot_be_imitated(changed: dict[str, bool]) -> None:
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    given = processor("MobileViTImageProcessor", **sizes, **changed)
    if "do_pad" in changed:
        given = processor("DetrImageProcessor", size={"shortest_edge": 32, "longest_edge": 48})
    with pytest.raises(ValueError, match=r"done here exactly\. Found \w+ImageProcessor") as error:
        FrozenClassifier.from_transformers(tiny(), given)
    assert "\n" not in str(error.value)


def test_labels_are_independent_where_the_model_says_so() -> None:
    model = tiny(problem_type="multi_label_classification")
    assert FrozenClassifier.from_transformers(model, processor()).output == "sigmoid"


def test_a_model_without_a_trained_head_is_refused(directory: Path) -> None:
    tiny().vit.save_pretrained(directory)  # type: ignore[union-attr, operator]
    with pytest.raises(ValueError, match=r"trained to classify\. Found no weights of classifier"):
        huggingface_classifier(str(directory))


@pytest.mark.usefixtures("no_network")
def test_without_a_network_it_fails_at_once() -> None:
    with pytest.raises(ValueError, match=r"classifier\.name=nobody/nothing .*no answer"):
        huggingface_classifier("nobody/nothing")


def test_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ValueError, match=r"saliency-vae\[huggingface\]"):
        huggingface_classifier("owner/name")
