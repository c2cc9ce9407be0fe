"""EfficientNet-Lite: real ImageNet weights, which know what is in a photograph."""

from functools import partial

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier, efficientnet_lite_classifier
from saliency_vae.models import find_feature_maps

pytest.importorskip("efficientnet_lite_pytorch", reason="an optional extra")


@pytest.fixture(scope="module", params=["lite0", "lite1"])
def classifier(request: pytest.FixtureRequest) -> FrozenClassifier:
    return efficientnet_lite_classifier(request.param)


def test_it_knows_a_flower_from_a_temple(classifier: FrozenClassifier) -> None:
    images = [classifier.preprocessing(Image.fromarray(i)) for i in load_sample_images().images]
    with torch.no_grad():
        logits = classifier(torch.stack(images).float() / 255)
    temple, flower = ({name for name, _ in top} for top in classifier.top(logits, 3))
    assert {"palace", "monastery", "bell cote"} & temple
    assert not temple & flower


def test_other_sizes_have_their_own_padding() -> None:
    small = efficientnet_lite_classifier("lite0", 128)
    images = torch.rand(2, 3, 128, 128)
    assert small(images).shape == (2, 1000)
    assert small.preprocessing.crop_size == (128, 128)
    assert small.identity().sha256 == efficientnet_lite_classifier("lite0").identity().sha256


def note(shapes: list[torch.Size], module: nn.Module, inputs: object, output: Tensor) -> None:
    shapes.append(output.shape)


def test_its_feature_maps_are_found_one_for_each_stride() -> None:
    classifier = efficientnet_lite_classifier("lite0", 128)
    found = find_feature_maps(classifier, torch.rand(2, 3, 128, 128))
    assert sorted(found_map["stride"] for found_map in found.values()) == [2, 4, 8, 16, 32]
    with torch.no_grad():
        for name, found_map in found.items():
            shapes: list[torch.Size] = []
            module = classifier.network.get_submodule(name)
            hook = module.register_forward_hook(partial(note, shapes))
            classifier(torch.rand(1, 3, 128, 128))
            hook.remove()
            side = 128 // found_map["stride"]
            assert shapes[-1] == (1, found_map["channels"], side, side), name


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [("lite9", None, "lite0 or lite1. Found 'lite9'"), ("lite0", 8, "image_size >= 16")],
)
def test_wrong_settings(name: str, size: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        efficientnet_lite_classifier(name, size)
