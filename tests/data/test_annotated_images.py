"""Image files with true masks from the boxes of their annotations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch.utils.data import Subset

from saliency_vae.data.annotated_images import AnnotatedImages
from saliency_vae.data.image_file_dataset import ImageFiles
from saliency_vae.data.image_reader import load_rgb, upright_size
from saliency_vae.data.preprocessing import Preprocessing
from tests.conftest import Blobs

CROP = Preprocessing(20, (20, 20))


def annotate(path: Path, box: tuple[int, int, int, int]) -> None:
    """Write an annotation of an image of 40 columns and 20 rows."""
    corners = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "<annotation><size><width>40</width><height>20</height></size>"
        f"<object><bndbox>{corners}</bndbox></object></annotation>"
    )


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    """Three images that are white in their box; the second's box is left of the crop."""
    boxes = [(15, 5, 24, 14), (0, 0, 5, 19), (12, 0, 20, 5)]
    paths = []
    for index, (left, top, right, bottom) in enumerate(boxes):
        pixels = np.zeros((20, 40, 3), dtype=np.uint8)
        pixels[top : bottom + 1, left : right + 1] = 255
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
        annotate(tmp_path / f"boxes/deep/{index}.xml", boxes[index])
    return ImageFiles(paths, CROP)


def test_masks_lie_on_the_objects_and_images_without_are_left_out(
    files: ImageFiles, tmp_path: Path
) -> None:
    found = AnnotatedImages(files, tmp_path / "boxes", CROP)
    assert (len(found), found.unseen) == (2, 1)
    for index, of_files in enumerate((0, 2)):
        item = found[index]
        assert torch.equal(item["image"], files[of_files]["image"])
        assert torch.equal(item["mask"], item["image"][0] > 127)
        assert item["mask"].any()


def test_first_images(files: ImageFiles, tmp_path: Path) -> None:
    found = AnnotatedImages(Subset(files, range(2)), tmp_path / "boxes", CROP)
    assert (len(found), found.unseen) == (1, 1)
    (tmp_path / "boxes/deep/2.xml").unlink()  # of none of them
    assert len(AnnotatedImages(Subset(files, range(2)), tmp_path / "boxes", CROP)) == 1


def test_images_that_are_read_in_another_size_are_left_out(
    files: ImageFiles, tmp_path: Path
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was on its side
    with Image.open(files.paths[0]) as image:
        image.save(files.paths[0], exif=turned)
    found = AnnotatedImages(files, tmp_path / "boxes", CROP)
    assert (len(found), found.unseen, found.misfits) == (1, 1, ["0"])
    assert torch.equal(found[0]["image"], files[2]["image"])
    with pytest.raises(ValueError, match=r"in the size that was annotated\. Found none in "):
        AnnotatedImages(ImageFiles(files.paths[:1], CROP), tmp_path / "boxes", CROP)


@pytest.mark.parametrize("orientation", [None, 3, 6, 8])
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_the_size_is_that_of_the_image_as_it_is_read(
    kind: str, orientation: int | None, tmp_path: Path
) -> None:
    turned = Image.Exif()
    if orientation is not None:
        turned[0x0112] = orientation
    Image.new("RGB", (20, 30)).save(tmp_path / f"image.{kind}", exif=turned)
    height, width = upright_size(tmp_path / f"image.{kind}")
    assert (width, height) == load_rgb(tmp_path / f"image.{kind}").size


def test_no_photograph_is_decoded_for_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (20, 30)).save(tmp_path / "image.jpg")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    assert upright_size(tmp_path / "image.jpg") == (30, 20)


def test_an_image_without_annotation_is_an_error(files: ImageFiles, tmp_path: Path) -> None:
    (tmp_path / "boxes/deep/2.xml").unlink()
    with pytest.raises(ValueError, match=r"Not found for 1, such as 2\.$"):
        AnnotatedImages(files, tmp_path / "boxes", CROP)


def test_two_images_of_one_name_are_an_error(files: ImageFiles, tmp_path: Path) -> None:
    twice = ImageFiles([*files.paths, files.paths[0]], CROP)
    with pytest.raises(ValueError, match=r"different names. Found 0 twice"):
        AnnotatedImages(twice, tmp_path / "boxes", CROP)


def test_no_box_in_view_is_an_error(files: ImageFiles, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected boxes in the classifier's view"):
        AnnotatedImages(ImageFiles(files.paths[1:2], CROP), tmp_path / "boxes", CROP)


def test_images_that_are_no_files_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"annotations of image files. Found Blobs"):
        AnnotatedImages(Blobs(2, seed=0), tmp_path, CROP)
