"""Boxes of ILSVRC annotations in the classifier's view."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from saliency_vae.data.boxes import Boxes, boxes_mask, read_boxes
from saliency_vae.data.preprocessing import Preprocessing

ANNOTATION = """<annotation>
	<folder>val</folder>
	<filename>ILSVRC2012_val_00000001</filename>
	<source><database>ILSVRC_2012</database></source>
	<size><width>500</width><height>375</height><depth>3</depth></size>
	<segmented>0</segmented>
	<object>
		<name>n01751748</name><pose>Unspecified</pose>
		<bndbox><xmin>111</xmin><ymin>108</ymin><xmax>441</xmax><ymax>193</ymax></bndbox>
	</object>
	<object>
		<name>n01751748</name>
		<bndbox><xmin>0</xmin><ymin>1</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>
	</object>
</annotation>
"""


def write(directory: Path, text: str) -> Path:
    path = directory / "annotation.xml"
    path.write_text(text)
    return path


def test_reads_size_and_boxes(tmp_path: Path) -> None:
    boxes = read_boxes(write(tmp_path, ANNOTATION))
    assert boxes.size == (375, 500)
    assert boxes.corners.tolist() == [[111, 108, 441, 193], [0, 1, 20, 30]]


def test_an_annotation_may_have_no_object(tmp_path: Path) -> None:
    text = ANNOTATION[: ANNOTATION.index("<object>")] + "</annotation>"
    boxes = read_boxes(write(tmp_path, text))
    assert boxes.corners.shape == (0, 4)
    assert not boxes_mask(boxes, Preprocessing()).any()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]>' + ANNOTATION, "entity declarations"),
        ("<annotation><size>", "no element found"),
        ("<annotation/>", "no size/height"),
        (ANNOTATION.replace("<xmax>441</xmax>", ""), "no xmax"),
        (ANNOTATION.replace("441", "wide"), "'wide'"),
    ],
)
def test_refuses_other_files(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(ValueError, match=f"^Expected an ILSVRC annotation in .*{found}.*$"):
        read_boxes(write(tmp_path, text))


def test_refuses_a_missing_file_and_other_encodings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        read_boxes(tmp_path / "missing.xml")
    path = tmp_path / "wide.xml"
    path.write_bytes(('<?xml version="1.0" encoding="utf-16"?>' + ANNOTATION).encode("utf-16"))
    with pytest.raises(ValueError, match=r"^Expected an ILSVRC annotation"):
        read_boxes(path)


def test_without_preprocessing_the_corners_are_inside() -> None:
    boxes = Boxes((6, 8), torch.tensor([[1, 2, 3, 4], [7, 5, 30, 30], [-2, -1, 0, 0]]))
    expected = torch.zeros(6, 8, dtype=torch.bool)
    expected[2:5, 1:4] = True
    expected[5, 7] = expected[0, 0] = True
    assert torch.equal(boxes_mask(boxes, Preprocessing()), expected)


def painted(boxes: Boxes, preprocessing: Preprocessing) -> Tensor:
    """The boxes painted white into a picture that goes the way of every image."""
    height, width = boxes.size
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for left, top, right, bottom in boxes.corners.tolist():
        picture[top : bottom + 1, left : right + 1] = 255
    return preprocessing(Image.fromarray(picture))[0].float() / 255


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (100, 90), (224, 224)])
@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(256, (224, 224)),
        Preprocessing(232, (224, 224), "bicubic"),
        Preprocessing((64, 80), (64, 80)),
        Preprocessing(None, (50, 60)),
    ],
)
def test_follows_the_image_through_resizing_and_cropping(
    size: tuple[int, int], preprocessing: Preprocessing
) -> None:
    height, width = size
    corners = [[width // 3, height // 4, width // 2, height // 2], [0, 0, width // 4, height - 1]]
    boxes = Boxes(size, torch.tensor(corners))
    mask, view = boxes_mask(boxes, preprocessing), painted(boxes, preprocessing)
    assert mask.shape == view.shape
    assert 0 < mask.float().mean() < 1
    assert mask[view > 0.8].all()
    assert not mask[view < 0.2].any()


def test_a_box_that_is_cropped_away_leaves_an_empty_mask() -> None:
    boxes = Boxes((100, 300), torch.tensor([[0, 0, 40, 99]]))
    assert not boxes_mask(boxes, Preprocessing(50, (50, 50))).any()
