"""Image files of every kind as RGB."""

import glob
import os
import stat
from collections.abc import Iterator
from io import BytesIO
from itertools import islice, takewhile
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)
# By content, whatever the extension. Not what Pillow hands to another program, as it does EPS.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "AVIF", "JPEG2000"),
    *("BMP", "DIB", "TIFF", "GIF", "PPM", "ICO", "TGA"),
)
_MOST_PIXELS = 2 * 89_478_485  # of a file: where Pillow, too, takes it for a decompression bomb


def load_rgb(file: str | os.PathLike[str] | BytesIO) -> Image.Image:
    """Read an image file, or its bytes, as 8-bit RGB, upright.

    Greyscale, palette, CMYK, 16-bit, floating point and EXIF-rotated files become what a viewer
    shows; transparency is laid over white; of an animation the first image is read.

    Raises:
        OSError: If the file is missing, broken, too large or not an image.
    """
    try:
        return _rgb(file)
    except Exception as error:  # whatever a decoder makes of damaged bytes
        raise OSError(f"Expected an image file. Found {file}: {error}") from error


def _rgb(file: str | os.PathLike[str] | BytesIO) -> Image.Image:
    if not isinstance(file, BytesIO) and not stat.S_ISREG(Path(file).stat().st_mode):
        raise OSError("not a regular file")  # a pipe would be waited for
    Image.init()
    with Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise OSError(f"{image.width} x {image.height} pixels, more than {_MOST_PIXELS}")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
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
    """Grey of floating point values, of which none says what is white: 1 or 255 by their range."""
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 255:
        raise OSError(f"float values in [0, 1] or [0, 255] expected, found {low:.3g} to {high:.3g}")
    scaled = values * (255 if high <= 1 else 1)
    return Image.fromarray(scaled.round().astype(np.uint8))


def list_images(directory: Path) -> list[Path]:
    """All image files below a directory, sorted, by extension.

    Raises:
        ValueError: If there is none.
    """
    check_images(directory)
    return [Path(path) for path in sorted(_walk(directory))]


def check_images(directory: Path, *, least: int = 1) -> None:
    """Look for the first image files below a directory, without listing all of them.

    Raises:
        ValueError: If there are fewer.
    """
    found = sum(1 for _ in islice(_walk(directory), least))
    if not found:
        raise ValueError(
            f"Expected image files ({', '.join(sorted(EXTENSIONS))}) below {directory}. Found none."
        )
    if found < least:
        raise ValueError(f"Expected at least {least} images below {directory}. Found {found}.")


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
    """Image files below a directory; each directory once, however many links lead to it.

    Raises:
        OSError: If a directory cannot be read: its images would be missing silently.
    """
    seen: set[str] = set()
    for folder, below, names in os.walk(directory, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below.sort()
        for name in names:
            if os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield os.path.join(folder, name)


def _raise(error: OSError) -> NoReturn:
    raise error
