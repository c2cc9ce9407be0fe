"""Reading an image file of any kind as the RGB pixels that a viewer shows."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

# Recognised by content, whatever the extension; without formats, such as EPS, that Pillow passes to
# another program.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "AVIF", "JPEG2000"),
    *("BMP", "DIB", "TIFF", "GIF", "PPM", "ICO", "TGA"),
)
_MOST_PIXELS = 2 * 89_478_485  # above this Pillow, too, suspects a decompression bomb
_LYING = (5, 6, 7, 8)  # orientations, in EXIF, of which width and height are exchanged


@cache
def extensions() -> frozenset[str]:
    """Extensions, in lower case, of the formats that are read, by Pillow's table."""
    known = Image.registered_extensions()
    return frozenset(extension for extension, name in known.items() if name in _FORMATS)


def load_rgb(file: str | os.PathLike[str] | BytesIO) -> Image.Image:
    """Read an image file, or its bytes, as 8-bit RGB, upright.

    Greyscale, palette, CMYK, 16-bit, floating-point and EXIF-rotated files become what a viewer
    shows; transparent images are laid over white; of an animation the first image is read.

    Args:
        file: File name, or the bytes of a file.

    Raises:
        OSError: If the file is missing, broken, too large or not an image.
    """
    with opened(file) as image:
        image.load()
        return upright_rgb(image)


def upright_size(file: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of an image file as it is read, upright; of a JPEG without decoding it.

    Raises:
        OSError: If the file is missing, broken, too large or not an image.
    """
    with opened(file) as image:
        if image.format not in ("JPEG", "MPO"):  # where the orientation may lie behind the pixels
            image = upright_rgb(image)
            return image.height, image.width
        turned = image.getexif().get(ExifTags.Base.Orientation) in _LYING
        return (image.width, image.height) if turned else (image.height, image.width)


@contextmanager
def opened(file: str | os.PathLike[str] | BytesIO) -> Iterator[Image.Image]:
    """Open an image file, or its bytes, of one of the formats that are read.

    Raises:
        OSError: If the file is missing, broken, too large or not an image. A decoder may raise any
            error on damaged bytes; in the ``with`` block, too, it becomes an OSError.
    """
    try:
        if not isinstance(file, BytesIO) and not stat.S_ISREG(Path(file).stat().st_mode):
            raise OSError("not a regular file")  # reading a pipe would block
        Image.init()
        with Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise OSError(f"{image.width} x {image.height} pixels, more than {_MOST_PIXELS}")
            yield image
    except Exception as error:
        raise OSError(f"Expected an image file. Found {file}: {error}") from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn an image of any mode into the 8-bit RGB, upright, that a viewer shows.

    Raises:
        OSError: If floating-point values are neither in [0, 1] nor in [0, 255].
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip rather than scale
        grey = (np.asarray(image).clip(0, 65535).astype(np.uint32) + 128) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return _float_grey(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _float_grey(values: np.ndarray) -> Image.Image:
    """Grey image of floating-point values; white is 1 if all are in [0, 1], and 255 otherwise."""
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 255:
        raise OSError(f"float values in [0, 1] or [0, 255] expected, found {low:.3g} to {high:.3g}")
    scaled = values * (255 if high <= 1 else 1)
    return Image.fromarray(scaled.round().astype(np.uint8))
