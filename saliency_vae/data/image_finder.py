"""Finding the image files that a file name, a directory or a glob pattern stands for."""

import glob
import os
from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import NoReturn

from saliency_vae.data.image_reader import extensions


def list_images(directory: Path) -> list[Path]:
    """List the files below a directory that have the extension of an image, sorted.

    Raises:
        ValueError: If there is none.
    """
    found = sorted(_walk(directory))
    _check(directory, len(found), least=1)
    return [Path(path) for path in found]


def check_images(directory: Path, *, least: int = 1) -> None:
    """Check that a directory has image files below it, without listing all of them.

    Args:
        directory: Directory to look in.
        least: Least number of image files.

    Raises:
        ValueError: If there are fewer.
    """
    _check(directory, sum(1 for _ in islice(_walk(directory), least)), least)


def _check(directory: Path, found: int, least: int) -> None:
    if not found:
        known = ", ".join(sorted(extensions()))
        raise ValueError(f"Expected image files ({known}) below {directory}. Found none.")
    if found < least:
        raise ValueError(f"Expected at least {least} images below {directory}. Found {found}.")


def find_images(pattern: str | os.PathLike[str]) -> tuple[Path, list[Path]]:
    """Find the image files that a file name, a directory or a glob pattern stands for.

    Args:
        pattern: File name, directory or glob pattern. A file name or pattern may match any
            extension; below a directory, only files with an image extension are found.

    Returns:
        Directory that contains all files (for a pattern, the part before its first wildcard), and
        the sorted files.

    Raises:
        ValueError: If there is no file.
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
    """Yield the image files below a directory, visiting each directory once despite links to it.

    Raises:
        OSError: If a directory cannot be read; otherwise its images would be missing silently.
    """
    known, seen = extensions(), set[str]()
    for folder, below, names in os.walk(directory, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below.sort()
        for name in names:
            if os.path.splitext(name)[1].lower() in known:
                yield os.path.join(folder, name)


def _raise(error: OSError) -> NoReturn:
    raise error
