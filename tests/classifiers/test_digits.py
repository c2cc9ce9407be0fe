"""The built-in classifier is trained once and then loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from saliency_vae.classifiers import digits as digit_classifier
from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.classifiers.digits import accuracy, cluttered_digits_classifier
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.data.digit_images import ClutteredDigits

pytestmark = pytest.mark.usefixtures("one_thread")


def build(path: Path, **arguments: Any) -> FrozenClassifier:
    tiny: dict[str, Any] = {"image_size": 32, "train_size": 128, "epochs": 1}
    return cluttered_digits_classifier(path, **(tiny | arguments))


@pytest.fixture(scope="module")
def trained(
    one_thread: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FrozenClassifier]:
    path = tmp_path_factory.mktemp("classifier") / "deep/er/digits.safetensors"
    return path, build(path)


Trained = tuple[Path, FrozenClassifier]


def test_a_second_call_loads_the_same_weights(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = trained
    monkeypatch.setattr(digit_classifier, "_train", lambda *_: pytest.fail("trained again"))
    second = build(path)
    assert second.identity() == first.identity()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(first(images), second(images))
    assert first(images).shape == (2, 10)
    assert not second.network.training


def test_training_is_a_function_of_the_settings(trained: Trained, tmp_path: Path) -> None:
    torch.rand(3)
    again = build(tmp_path / "again.safetensors")
    assert again.identity().sha256 == trained[1].identity().sha256


@pytest.mark.parametrize(
    "other", [{"image_size": 33}, {"train_size": 64}, {"epochs": 2}, {"seed": 1}]
)
def test_a_file_of_other_settings_is_refused_and_left_as_it_is(
    trained: Trained, other: dict[str, int]
) -> None:
    path, _ = trained
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"'{next(iter(other))}': {next(iter(other.values()))}"):
        build(path, **other)
    assert path.read_bytes() == before


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"settings": "{"}])
def test_anothers_file_is_refused_and_left_as_it_is(
    metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"to be a safetensors file of this built-in classifier.*Found another"
    ):
        build(path)
    assert path.read_bytes() == before


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written without training."""
    monkeypatch.setattr(digit_classifier, "_train", lambda network, *_: network.eval())
    monkeypatch.setattr(digit_classifier, "ClutteredDigits", lambda *_, **__: None)
    monkeypatch.setattr(digit_classifier, "accuracy", lambda *_: 0.5)


def settings_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["settings"])
    return found


@pytest.mark.usefixtures("untrained")
def test_only_other_architectures_than_the_first_are_named_in_the_file(tmp_path: Path) -> None:
    names = {}
    for architecture in ("convolutional", "residual"):
        path = tmp_path / f"{architecture}.safetensors"
        built = build(path, architecture=architecture)
        names[built.name] = settings_of(path).get("architecture")
        assert build(path, architecture=architecture).identity() == built.identity()
    assert names == {
        "cluttered_digits": None,
        "cluttered_digits_residual": "residual",
    }
    assert settings_of(tmp_path / "convolutional.safetensors") == {
        "image_size": 32,
        "train_size": 128,
        "epochs": 1,
        "seed": 0,
    }


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("written", "asked"),
    [("convolutional", "residual"), ("residual", "convolutional")],
)
def test_a_file_of_another_architecture_is_refused(
    written: str, asked: str, tmp_path: Path
) -> None:
    path = tmp_path / "digits.safetensors"
    build(path, architecture=written)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"to be trained with .*Found .*classifier\.path=FILE"):
        build(path, architecture=asked)
    assert path.read_bytes() == before


def test_an_unknown_architecture_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    expected = r"architecture among convolutional, residual\. Found 'resnet'\."
    with pytest.raises(ValueError, match=expected):
        build(tmp_path / "deep/digits.safetensors", architecture="resnet")
    assert list(tmp_path.iterdir()) == []


def test_training_learns() -> None:
    data = ClutteredDigits("train", 256, image_size=32)
    torch.manual_seed(0)
    network = DigitNet()
    before = accuracy(network.eval(), data)
    digit_classifier._train(network, data, 12)
    assert not network.training
    assert accuracy(network, data) > max(0.4, before)


def test_accuracy_is_the_share_that_is_right() -> None:
    data = ClutteredDigits("val", 30, image_size=32)
    data.labels[:12] = 3
    data.labels[12:] = 5

    class Threes(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert 0 <= images.min() <= images.max() <= 1
            return torch.nn.functional.one_hot(torch.full((len(images),), 3), 10)

    assert accuracy(Threes(), data) == pytest.approx(12 / 30)


def test_the_global_random_state_is_untouched(tmp_path: Path) -> None:
    path = tmp_path / "digits.safetensors"
    torch.manual_seed(5)
    expected = torch.rand(3)
    for _ in ("trained", "loaded"):
        torch.manual_seed(5)
        build(path, train_size=64)
        assert torch.equal(torch.rand(3), expected)
