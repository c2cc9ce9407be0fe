"""True masks from bounding boxes: ImageNet's annotations, as the classifier sees the image."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saliency_vae.preprocessing import Preprocessing


class Boxes(NamedTuple):
    """Bounding boxes in an image file.

    Attributes:
        size: Height and width of the image in pixels.
        corners: (n, 4) int64: first column, first row, last column, last row, from 0.
    """

    size: tuple[int, int]
    corners: Tensor


def read_boxes(path: Path) -> Boxes:
    """Read the boxes of all objects in an annotation of ILSVRC (PASCAL VOC's XML).

    Raises:
        ValueError: If the file is no such annotation, or declares entities.
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
    """Mark the boxes in the classifier's view, after resizing and cropping.

    Args:
        boxes: In the original image.
        preprocessing: Of the image.

    Returns:
        (H, W) bool, the union of the boxes; empty where there is none, or all are cropped away.
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
