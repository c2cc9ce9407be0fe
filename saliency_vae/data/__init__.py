"""Images in: data modules, image files, preprocessing, true masks and shards.

Data modules are named by the configuration; here is what other parts import.
"""

from saliency_vae.data.batch import Batch, collate
from saliency_vae.data.image_dataset import ImageFiles, too_many_broken
from saliency_vae.data.images import find_images, list_images, load_rgb
from saliency_vae.data.preprocessing import MINIMUM_SIZE, Preprocessing

__all__ = [
    "Batch",
    "ImageFiles",
    "MINIMUM_SIZE",
    "Preprocessing",
    "collate",
    "find_images",
    "list_images",
    "load_rgb",
    "too_many_broken",
]
