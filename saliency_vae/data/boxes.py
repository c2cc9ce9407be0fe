"""Bounding boxes of objects: reading ILSVRC annotations, and converting boxes to masks."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saliency_vae.data.preprocessing import Preprocessing


class Boxes(NamedTuple):
    """Bounding boxes of the objects in an image file.

    Attributes:
        size: Height and width of the image in pixels.
        corners: First column, first row, last column and last row of each box, counted from 0,
            (n, 4) int64.
    """

    size: tuple[int, int]
    corners: Tensor


def read_boxes(path: Path) -> Boxes:
    """Read the boxes of all objects from an ILSVRC annotation (PASCAL VOC XML).

    Raises:
        ValueError: If the file is not such an annotation, or declares XML entities.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if "<!ENTITY" in text:
            raise ValueError("entity declarations, which are refused")
        root = ElementTree.fromstring(text)
        height, width = (_number(root, f"size/{name}") for name in ("height", "width"))
        corners = [
            [_number(box, name) for name in ("xmin", "ymin", "xmax", "ymax")]
            for box in root.iterfind("object/bndbox")
        ]
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"Expected an ILSVRC annotation in {path}. Found {error}.") from None
    return Boxes((height, width), torch.tensor(corners, dtype=torch.int64).view(-1, 4))


def boxes_mask(boxes: Boxes, preprocessing: Preprocessing) -> Tensor:
    """Convert boxes to a mask of the preprocessed image.

    Args:
        boxes: Boxes in the original image.
        preprocessing: Preprocessing of the image.

    Returns:
        Mask of the union of the boxes, (H, W) bool; all False if no box is inside the crop.
    """
    canvas = np.zeros((*boxes.size, 3), dtype=np.uint8)
    for left, top, right, bottom in boxes.corners.clamp_min(0).tolist():
        canvas[top : bottom + 1, left : right + 1] = 255
    view = replace(preprocessing, interpolation="nearest")(Image.fromarray(canvas))
    return view[0] > 0


def _number(node: ElementTree.Element, name: str) -> int:
    text = node.findtext(name)
    if text is None:
        raise ValueError(f"no {name}")
    return int(text)
