"""True masks from bounding boxes: ImageNet's annotations, as the classifier sees the image."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset

from saliency_vae.data.batch import Batch
from saliency_vae.data.image_dataset import ImageFiles
from saliency_vae.data.images import load_rgb
from saliency_vae.data.preprocessing import Preprocessing


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


class WithBoxes(Dataset[Batch]):
    """Image files with the true masks that their annotations give.

    Images whose boxes lie outside the classifier's view are left out: there is no truth to score.
    So are those that are read in another size than was annotated, such as images that a camera
    marked as turned: it is not known where in them the boxes lie.

    Args:
        images: Image files, or the first of them.
        annotations: Directory that holds ``<name of the image>.xml``, however deep.
        preprocessing: Of the images.

    Attributes:
        unseen: Number of images left out as their boxes are not in view.
        misfits: Names of the images left out for their size.

    Raises:
        ValueError: If the images are no files, one has no annotation or another's name, or none
            has a box in view.
    """

    def __init__(
        self, images: Dataset[Batch], annotations: Path, preprocessing: Preprocessing
    ) -> None:
        files = images.dataset if isinstance(images, Subset) else images
        if not isinstance(files, ImageFiles):
            raise ValueError(f"Expected annotations of image files. Found {type(files).__name__}.")
        if not annotations.is_dir():
            raise ValueError(f"Expected annotations to be a directory. Found {annotations}.")
        self.images = images
        self.preprocessing = preprocessing
        found = {path.stem: path for path in annotations.rglob("*.xml")}
        number = len(images)  # type: ignore[arg-type]  # Dataset promises no length
        names = [path.stem for path in files.paths[:number]]
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"Expected an annotation below {annotations} for each image. Not found for "
                f"{len(missing)}, such as {missing[0]}."
            )
        twice = [name for name, number in Counter(names).items() if number > 1]
        if twice:
            raise ValueError(f"Expected images of different names. Found {twice[0]} twice.")
        fitting = [_fits(read_boxes(found[path.stem]), path) for path in files.paths[:number]]
        self.misfits = [name for name, fits in zip(names, fitting, strict=True) if not fits]
        self._seen = [
            (index, found[name])
            for index, name in enumerate(names)
            if fitting[index] and self._mask(found[name]).any()
        ]
        self.unseen = len(names) - len(self.misfits) - len(self._seen)
        if not self._seen:
            raise ValueError(
                "Expected boxes in the classifier's view, of images in the size that was "
                f"annotated. Found none in {annotations}."
            )

    def __len__(self) -> int:
        return len(self._seen)

    def __getitem__(self, index: int) -> Batch:
        image, annotation = self._seen[index]
        return {"image": self.images[image]["image"], "mask": self._mask(annotation)}

    def _mask(self, annotation: Path) -> Tensor:
        return boxes_mask(read_boxes(annotation), self.preprocessing)


def _fits(boxes: Boxes, image: Path) -> bool:
    """Whether boxes are of an image in the size in which it is read, upright."""
    return boxes.size == load_rgb(image).size[::-1]


def _number(node: ElementTree.Element, name: str) -> int:
    text = node.findtext(name)
    if text is None:
        raise ValueError(f"no {name}")
    return int(text)
