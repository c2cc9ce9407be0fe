"""Image files with true masks from the bounding boxes of their annotations."""

from collections import Counter
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset, Subset

from saliency_vae.data.batch import Batch
from saliency_vae.data.boxes import Boxes, boxes_mask, read_boxes
from saliency_vae.data.image_file_dataset import ImageFiles
from saliency_vae.data.image_name import image_name
from saliency_vae.data.image_reader import upright_size
from saliency_vae.data.preprocessing import Preprocessing


class AnnotatedImages(Dataset[Batch]):
    """Image files whose true mask is the union of the annotated bounding boxes.

    An image with no box inside the crop is left out, since there is nothing to score. So is an
    image whose size differs from the annotated size, for example after EXIF rotation, since its
    boxes cannot be placed.

    Args:
        images: An :class:`ImageFiles`, or a ``Subset`` of its first images.
        annotations: Directory that holds ``<name of the image>.xml`` at any depth.
        preprocessing: Preprocessing of the images.

    Attributes:
        unseen: Number of images left out because no box is inside the crop.
        misfits: Names of the images left out because of their size.

    Raises:
        ValueError: If the images are not files, two share a name, one has no annotation, or none
            is left.
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

    def name(self, index: int) -> str:
        """Path of the file of an image."""
        return image_name(self.images, self._seen[index][0])

    def _mask(self, annotation: Path) -> Tensor:
        return boxes_mask(read_boxes(annotation), self.preprocessing)


def _fits(boxes: Boxes, image: Path) -> bool:
    """Whether the annotated size is the size of the upright image."""
    return boxes.size == upright_size(image)
