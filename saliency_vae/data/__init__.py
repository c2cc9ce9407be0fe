"""The images: data modules, image files, preprocessing, true masks, and shards for streaming.

Configurations name the data modules by import path; other packages import the names below.
``OwnData`` is imported on first use, because Lightning takes longer to import than PyTorch.
"""

from typing import TYPE_CHECKING, Any

from saliency_vae.data.batch import Batch, collate
from saliency_vae.data.image_file_dataset import ImageFiles, too_many_broken
from saliency_vae.data.image_finder import find_images, list_images
from saliency_vae.data.image_name import image_name
from saliency_vae.data.image_reader import load_rgb, upright_rgb
from saliency_vae.data.picture import as_picture
from saliency_vae.data.preprocessing import (
    MINIMUM_SIZE,
    Interpolation,
    Preprocessing,
    TooLargeError,
)

if TYPE_CHECKING:
    from saliency_vae.data.own_images import OwnData

__all__ = [
    "MINIMUM_SIZE",
    "Batch",
    "ImageFiles",
    "Interpolation",
    "OwnData",
    "Preprocessing",
    "TooLargeError",
    "as_picture",
    "collate",
    "find_images",
    "image_name",
    "list_images",
    "load_rgb",
    "too_many_broken",
    "upright_rgb",
]


def __getattr__(name: str) -> Any:
    if name == "OwnData":
        from saliency_vae.data.own_images import OwnData

        return OwnData
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
