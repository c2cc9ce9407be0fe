"""Image files of every kind as RGB."""

import glob
import os
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.data.datamodule import Batch

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)


def load_rgb(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image file as 8-bit RGB, upright.

    Greyscale, palette, CMYK, 16-bit and EXIF-rotated files become what a viewer shows;
    transparency is laid over white.

    Raises:
        OSError: If the file is missing, broken or not an image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"Expected an image file. Found {path}: {error}") from error
    if upright.mode.startswith("I"):  # 16-bit grey, which Pillow would clip rather than scale
        grey = (np.asarray(upright, dtype=np.float64) / 257).round().clip(0, 255)
        upright = Image.fromarray(grey.astype(np.uint8))
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright)
    return upright.convert("RGB")


def list_images(directory: Path) -> list[Path]:
    """All image files below a directory, sorted, by extension.

    Raises:
        ValueError: If there is none.
    """
    found = sorted(_walk(directory))
    if not found:
        raise ValueError(
            f"Expected image files ({', '.join(sorted(EXTENSIONS))}) below {directory}. Found none."
        )
    return [Path(path) for path in found]


def find_images(pattern: str | os.PathLike[str]) -> tuple[Path, list[Path]]:
    """Image files that a file name, a directory or a glob pattern stands for.

    Args:
        pattern: Files that it names are taken whatever their extension.

    Returns:
        The directory that all of them lie in, and the files, sorted. That of a pattern is what
        comes before its first wildcard, whatever it matches.

    Raises:
        ValueError: If there is none.
    """
    path = Path(pattern)
    if path.is_dir():
        return path, list_images(path)
    if path.is_file():
        return path.parent, [path]
    found = glob.glob(os.fspath(pattern), recursive=True)  # noqa: PTH207 (takes hidden files too)
    files = sorted({name for name in map(Path, found) if name.is_file()})
    if not files:
        raise ValueError(
            "Expected images=... to be an image file, a directory with images, or a pattern such "
            f"as 'photos/*.jpg'. Nothing found: {pattern}."
        )
    return Path(*takewhile(lambda part: not glob.has_magic(part), path.parts)), files


def _walk(directory: str | os.PathLike[str]) -> Iterator[str]:
    for folder, _, names in os.walk(directory, followlinks=True):
        for name in names:
            if os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield os.path.join(folder, name)


class ImageFiles(Dataset[Batch]):
    """Image files, read when asked for.

    Args:
        paths: Of the files.
        preprocess: RGB image to uint8 (3, H, W), the same size for all.
    """

    def __init__(self, paths: list[Path], preprocess: Callable[[Image.Image], Tensor]) -> None:
        self.paths = paths
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Batch:
        image = self.preprocess(load_rgb(self.paths[index]))
        return {"image": image, "index": torch.tensor(index)}

    def name(self, index: int) -> str:
        """Name an image by its file."""
        return str(self.paths[index])
