"""Image files are read as the classifier sees them; one that cannot be explained says why."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saliency_vae.data import Preprocessing
from saliency_vae.inference.image_files import BrokenImage, InputImages, same_size
from saliency_vae.visualization import InputImage


def read(
    tmp_path: Path, image: Image.Image, preprocessing: Preprocessing
) -> InputImage | BrokenImage:
    path = tmp_path / "below" / "a.png"
    path.parent.mkdir(exist_ok=True)
    image.save(path)
    return InputImages(tmp_path, [path], preprocessing, shown=["below/a.png"])[0]


def test_an_image_is_read_as_the_classifier_sees_it(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    found = read(tmp_path, image, Preprocessing(crop_size=(20, 20)))
    assert isinstance(found, InputImage)
    assert (found.name, found.size) == ("below/a.png", (40, 60))
    np.testing.assert_array_equal(found.pixels.transpose(1, 2, 0), np.asarray(image)[10:30, 20:40])


def test_an_image_that_is_too_small_for_any_encoder_is_broken(tmp_path: Path) -> None:
    found = read(tmp_path, Image.new("RGB", (30, 15)), Preprocessing())
    assert isinstance(found, BrokenImage)
    assert found.reason == (
        "Expected an image of at least 16 x 16 pixels after preprocessing. Found 15 x 30."
    )
    large = read(tmp_path, Image.new("RGB", (30, 15)), Preprocessing(resize_size=16))
    assert isinstance(large, InputImage)


def test_a_photograph_that_nothing_resizes_is_broken_before_it_fills_the_memory(
    tmp_path: Path,
) -> None:
    photograph = Image.new("RGB", (1025, 20))
    found = read(tmp_path, photograph, Preprocessing())
    assert isinstance(found, BrokenImage)
    assert "at most 1024 pixels a side" in found.reason
    assert "classifier.resize_size=256" in found.reason
    assert isinstance(read(tmp_path, photograph, Preprocessing(crop_size=(20, 20))), InputImage)


@pytest.mark.parametrize("step", ["displayed", "Preprocessing.resized"])
def test_an_error_of_the_program_is_not_a_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def wrong(*_: object) -> None:
        raise ValueError("a mistake in the program")

    monkeypatch.setattr(f"saliency_vae.inference.image_files.{step}", wrong)
    with pytest.raises(ValueError, match="a mistake"):
        read(tmp_path, Image.new("RGB", (30, 30)), Preprocessing())


def test_images_of_one_size_are_one_batch() -> None:
    def made(name: str, height: int) -> InputImage:
        pixels = np.zeros((3, height, 20), dtype=np.uint8)
        return InputImage(name, pixels, pixels, (height, 20), Preprocessing(), Path(name))

    batches = same_size([made("a", 30), made("b", 20), made("c", 30)])
    assert [[image.name for image in batch] for batch in batches] == [["b"], ["a", "c"]]
