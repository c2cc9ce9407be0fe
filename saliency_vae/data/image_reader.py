"""Reading image files of many formats as the RGB pixels that an image viewer shows."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

# Recognised by content, whatever the extension. Formats that Pillow passes to another program, such
# as EPS, are excluded.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "AVIF", "JPEG2000"),
    *("BMP", "DIB", "TIFF", "GIF", "PPM", "ICO", "TGA"),
)
_MOST_PIXELS = 2 * 89_478_485  # above this, Pillow too suspects a decompression bomb
_SWAPPED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@cache
def extensions() -> frozenset[str]:
    """Lower-case file extensions of the supported formats, from Pillow's registry."""
    known = Image.registered_extensions()
    return frozenset(extension for extension, name in known.items() if name in _FORMATS)


def load_rgb(file: str | os.PathLike[str] | BytesIO) -> Image.Image:
    """Read an image file, or its bytes, as upright 8-bit RGB.

    Greyscale, palette, CMYK, 16-bit, floating-point and EXIF-rotated files become what a viewer
    shows. Transparent images are laid over white; of an animation, only the first frame is read.

    Args:
        file: File name, or the bytes of a file.

    Raises:
        OSError: If the file is missing, broken, too large or not an image.
    """
    with opened(file) as image:
        image.load()
        return upright_rgb(image)


def upright_size(file: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of the upright image in a file; a JPEG is not decoded for this.

    Raises:
        OSError: If the file is missing, broken, too large or not an image.
    """
    with opened(file) as image:
        if image.format not in ("JPEG", "MPO"):  # may store the orientation after the pixels
            image = upright_rgb(image)
            return image.height, image.width
        turned = image.getexif().get(ExifTags.Base.Orientation) in _SWAPPED
        return (image.width, image.height) if turned else (image.height, image.width)


@contextmanager
def opened(file: str | os.PathLike[str] | BytesIO) -> Iterator[Image.Image]:
    """Open an image file, or its bytes, in one of the supported formats.

    Raises:
        OSError: If the file is missing, broken, too large or not an image. Any error in the
            ``with`` block becomes an OSError too, since a decoder may raise any on damaged bytes.
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
    """Convert an image of any mode to the upright 8-bit RGB that a viewer shows.

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
    """Convert floats to a grey image; white is 1 if all are in [0, 1], and 255 otherwise."""
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 255:
        raise OSError(f"float values in [0, 1] or [0, 255] expected, found {low:.3g} to {high:.3g}")
    scaled = values * (255 if high <= 1 else 1)
    return Image.fromarray(scaled.round().astype(np.uint8))
