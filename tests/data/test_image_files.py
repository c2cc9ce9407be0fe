"""Image files of every kind become the RGB that a viewer shows."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from saliency_vae.data.image_file_dataset import ImageFiles
from saliency_vae.data.image_finder import list_images
from saliency_vae.data.image_reader import load_rgb
from saliency_vae.data.path_list import PathList
from saliency_vae.data.preprocessing import Preprocessing

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def pixels(path: Path) -> list[list[list[int]]]:
    """Rows of RGB pixels of a file, after a check of the mode."""
    image = load_rgb(path)
    assert image.mode == "RGB"
    result: list[list[list[int]]] = np.asarray(image).tolist()
    return result


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    with Image.open(path) as stored:  # the test is void if Pillow stored another mode
        assert stored.mode == image.mode
    return path


def test_greyscale(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint8))
    assert pixels(save(image, tmp_path / "l.png")) == [[[0] * 3, [100] * 3, [255] * 3]]


def test_one_bit(tmp_path: Path) -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert pixels(save(image, tmp_path / "bit.png")) == [[[0] * 3, [255] * 3]]


def palette_image() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    return image


@pytest.mark.parametrize("extension", ["png", "gif"])
def test_palette(tmp_path: Path, extension: str) -> None:
    path = save(palette_image(), tmp_path / f"palette.{extension}")
    assert pixels(path) == [[[*RED], [*BLUE]]]


@pytest.mark.parametrize("extension", ["png", "gif"])
def test_palette_with_a_transparent_colour(tmp_path: Path, extension: str) -> None:
    path = save(palette_image(), tmp_path / f"palette.{extension}", transparency=0)
    assert pixels(path) == [[[*WHITE], [*BLUE]]]


def test_palette_with_many_alphas(tmp_path: Path) -> None:
    path = save(palette_image(), tmp_path / "palette.png", transparency=bytes([255, 0]))
    assert pixels(path) == [[[*RED], [*WHITE]]]


def test_rgb_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    assert pixels(save(image, tmp_path / "rgb.png", transparency=RED)) == [[[*WHITE], [*BLUE]]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    path = save(image, tmp_path / "cmyk.jpg", quality=95)
    np.testing.assert_allclose(pixels(path), np.full((16, 16, 3), RED), atol=8)


@pytest.mark.parametrize("extension", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, extension: str) -> None:
    values = np.array([[0, 100 * 257, 200 * 257, 65535]], dtype=np.uint16)
    path = tmp_path / f"deep.{extension}"
    Image.fromarray(values).save(path)
    with Image.open(path) as stored:
        assert stored.mode.startswith("I")
    assert pixels(path) == [[[0] * 3, [100] * 3, [200] * 3, [255] * 3]]


@pytest.mark.parametrize("scale", [1 / 255, 1])
def test_floating_point_grey_is_scaled_by_its_range(tmp_path: Path, scale: float) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(scale * np.array([[0, 100, 200, 255]], dtype=np.float32)).save(path)
    with Image.open(path) as stored:
        assert stored.mode == "F"
    assert pixels(path) == [[[0] * 3, [100] * 3, [200] * 3, [255] * 3]]


@pytest.mark.parametrize("value", [-1, 256, np.nan])
def test_floating_point_grey_of_another_range_is_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(np.array([[0, value]], dtype=np.float32)).save(path)
    with pytest.raises(OSError, match="float values"):
        load_rgb(path)


def test_rgba_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1), (*RED, 255))
    image.putpixel((1, 0), (*RED, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))  # a fifth of black
    path = save(image, tmp_path / "rgba.png")
    assert pixels(path) == [[[*RED], [*WHITE], [204] * 3]]


def test_la_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1), (50, 255))
    image.putpixel((1, 0), (50, 0))
    assert pixels(save(image, tmp_path / "la.png")) == [[[50] * 3, [255] * 3]]


@pytest.mark.parametrize("extension", ["jpg", "png", "tif"])
def test_exif_orientation_is_applied(tmp_path: Path, extension: str) -> None:
    stored = Image.new("RGB", (48, 32), BLUE)
    stored.paste(RED, (0, 0, 16, 16))  # top left in the file
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    path = tmp_path / f"rotated.{extension}"
    stored.save(path, exif=exif)
    upright = load_rgb(path)
    assert upright.size == (32, 48)
    expected = Image.new("RGB", (32, 48), BLUE)
    expected.paste(RED, (16, 0, 32, 16))  # top right when upright
    corners = [(2, 2), (29, 2), (2, 45), (29, 45)]
    for corner in corners:
        np.testing.assert_allclose(
            upright.getpixel(corner),  # type: ignore[arg-type]
            expected.getpixel(corner),  # type: ignore[arg-type]
            atol=12,
        )


def test_exif_orientation_of_a_deep_image(tmp_path: Path) -> None:
    values = np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path, exif=exif)
    assert np.asarray(load_rgb(path))[..., 0].tolist() == [[40, 10], [50, 20], [60, 30]]


def photo(path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")  # Pillow's, of a TIFF
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "bmp", "tif", "gif", "ppm"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.7])
def test_a_truncated_file_raises_oserror(tmp_path: Path, extension: str, kept: float) -> None:
    path = tmp_path / f"broken.{extension}"
    whole = photo(path)
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(OSError, match=r"\S"):
        load_rgb(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda png: png[:37] + b"n7\xd5\xfd" + png[41:],  # a chunk's type
        lambda _: b"P6\n4 4x 255\n" + bytes(48),  # a PPM header
        lambda png: png[:16] + b"\x00\x10\x00\x00" + png[20:],  # a size without a checksum
        lambda _: b"P6\n99999 99999 255\n",  # a huge size
    ],
    ids=["chunk", "header", "checksum", "bomb"],
)
def test_a_damaged_file_raises_oserror(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "damaged.png"
    path.write_bytes(damage(photo(path)))
    with pytest.raises(OSError, match=r"\S"):
        load_rgb(path)


def test_no_image_or_no_file_raises_oserror(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    for name in ("text.jpg", "missing.png", "."):
        with pytest.raises(OSError, match=r"\S"):
            load_rgb(tmp_path / name)


def test_list_images_walks_sorts_and_ignores_case(tmp_path: Path) -> None:
    names = ["b/deep/er/1.JPG", "b/2.png", "a.Tiff", "c.jpeg", "b/0.webp", "d.jfif", "e.jp2"]
    for name in [*names, "notes.txt", "b/jpg", "b/x.jpg.part", "Makefile"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()  # a directory is no image
    found = list_images(tmp_path)
    assert found == sorted(found)
    assert {path.relative_to(tmp_path).as_posix() for path in found} == set(names)


def test_list_images_follows_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Mock(side_effect=os.walk)
    monkeypatch.setattr(os, "walk", walk)
    (tmp_path / "store").mkdir()
    (tmp_path / "store/1.png").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/linked").symlink_to(tmp_path / "store")
    assert list_images(tmp_path / "root") == [tmp_path / "root/linked/1.png"]
    walk.assert_called_once()


def test_an_empty_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/notes.txt").touch()
    with pytest.raises(ValueError, match=rf"\.jpeg.* below {tmp_path}"):
        list_images(tmp_path)


def test_image_files_are_preprocessed(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), RED).save(tmp_path / "red.png")
    Image.new("L", (20, 50), 7).save(tmp_path / "grey.png")
    files = ImageFiles(list_images(tmp_path), Preprocessing(16, (12, 10)))
    assert len(files) == 2
    grey, red = files[0]["image"], files[1]["image"]
    assert grey.shape == red.shape == (3, 12, 10)
    assert set(grey.flatten().tolist()) == {7}
    assert set(red[0].flatten().tolist()) == {255}
    assert set(red[1:].flatten().tolist()) == {0}


def test_preprocessing_of_nothing_keeps_the_pixels() -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    tensor = Preprocessing()(Image.fromarray(values))
    assert tensor.permute(1, 2, 0).numpy().tolist() == values.tolist()


def test_no_path_is_held_as_an_object_that_each_loader_process_would_copy(tmp_path: Path) -> None:
    before = sum(isinstance(held, Path) for held in gc.get_objects())
    files = ImageFiles((tmp_path / f"{place}.png" for place in range(1000)), Preprocessing())
    assert sum(isinstance(held, Path) for held in gc.get_objects()) < before + 100
    assert len(files) == len(files.paths) == 1000
    assert files.paths[-1] == tmp_path / "999.png"
    assert files.paths[2:6:3] == [tmp_path / "2.png", tmp_path / "5.png"]
    with pytest.raises(IndexError):
        files.paths[1000]


def test_names_of_files_that_are_no_unicode_are_kept() -> None:
    path = Path(os.fsdecode(b"caf\xe9/\xff.png"))
    assert [*PathList([path, Path("b.png")])] == [path, Path("b.png")]
    assert len(PathList([])) == 0
