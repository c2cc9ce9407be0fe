"""The images: data modules, image files, preprocessing, true masks, and shards for streaming.

Configurations name the data modules by import path; other packages import the names below.
"""

from saliency_vae.data.batch import Batch, collate
from saliency_vae.data.image_file_dataset import ImageFiles, too_many_broken
from saliency_vae.data.image_finder import find_images, list_images
from saliency_vae.data.image_name import image_name
from saliency_vae.data.image_reader import load_rgb, upright_rgb
from saliency_vae.data.own_images import OwnData, Photographs
from saliency_vae.data.picture import as_picture
from saliency_vae.data.preprocessing import (
    MINIMUM_SIZE,
    Interpolation,
    Preprocessing,
    TooLargeError,
)

__all__ = [
    "MINIMUM_SIZE",
    "Batch",
    "ImageFiles",
    "Interpolation",
    "OwnData",
    "Photographs",
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
