"""Image files of cut-outs and photographs: groups, splits and reading."""

import os
from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from saliency_vae.data.image_finder import list_images
from saliency_vae.data.image_reader import opened
from saliency_vae.data.scenes import OPAQUE

Split = Literal["train", "val", "test"]
PORTIONS = 3  # of the test objects and photographs, each to be evaluated on only once
LEAST_OPAQUE = 0.15  # least opaque share of a cut-out's bounding box
GROUPS = "groups.txt"  # lines "path group", paths relative to the file
_SHARES = {"train": 0.55, "val": 0.15}  # of the groups; the rest are test groups


def groups_of(directory: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Name the group of each file; a group holds variants of one object, and stays in one split.

    ``groups.txt`` in the directory or its parent lists the groups. Any other file is a group of
    its own, together with files that differ from it only in the extension.
    """
    whole = Path(os.path.abspath(directory))  # noqa: PTH100 (resolve would follow a link)
    named: dict[Path, str] = {}
    for place in (whole, whole.parent):
        if (place / GROUPS).is_file():
            rows = [line.rsplit(maxsplit=1) for line in (place / GROUPS).read_text().splitlines()]
            named = {place / row[0]: row[1] for row in rows if len(row) == 2}
            break
    paths = {file: whole / file.relative_to(directory) for file in files}
    alone = _names([file.relative_to(directory) for file in files if paths[file] not in named])
    return {
        file: named[path] if path in named else alone[file.relative_to(directory)]
        for file, path in paths.items()
    }


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """Name files by their stem, or by their path if several folders contain that stem."""
    parents: dict[str, set[Path]] = defaultdict(set)
    for file in files:
        parents[file.stem].add(file.parent)
    return {
        file: file.stem if len(parents[file.stem]) == 1 else file.with_suffix("").as_posix()
        for file in files
    }


def files_of(split: Split, directory: Path, *, portion: int = 1) -> list[Path]:
    """List the files of a directory that belong to a split; groups stay together.

    The groups are assigned to the splits in the order of a hash of their names.

    Args:
        split: ``train``, ``val`` or ``test``.
        directory: Directory of image files.
        portion: Portion of the test files, from 1 to 3.

    Raises:
        ValueError: If the directory holds no image for the split.
    """
    files = list_images(directory)
    groups = groups_of(directory, files)
    ordered = sorted(set(groups.values()), key=lambda group: sha256(group.encode()).digest())
    chosen = set(_dealt(ordered, split, portion))
    found = [file for file, group in groups.items() if group in chosen]
    if not found:
        raise ValueError(
            f"Expected {directory} to hold images of enough groups for training, validation and "
            f"{PORTIONS} test portions. Found {len(files)} images, none of them for {split}."
        )
    return found


def _dealt(groups: Sequence[str], split: Split, portion: int) -> Sequence[str]:
    """Select the groups of a split; the test groups are dealt to the portions in turn."""
    train, val = (round(share * len(groups)) for share in accumulate(_SHARES.values()))
    if split == "test":
        return groups[val:][portion - 1 :: PORTIONS]
    return groups[:train] if split == "train" else groups[train:val]


def load_rgba(file: Path) -> Image.Image:
    """Read an image file as RGBA, upright and cropped to its visible part.

    Raises:
        ValueError: If it has no transparency, nothing in it is visible, or it cannot be read.
    """
    try:
        with opened(file) as image:
            transparent = image.has_transparency_data
            cutout = ImageOps.exif_transpose(image).convert("RGBA")
    except OSError as error:
        why = error.__cause__ or error
        raise ValueError(f"Expected a cut-out, an image file. Found {file}: {why}.") from None
    if not transparent:
        raise ValueError(f"Expected a cut-out with transparency. Found none in {file}.")
    box = cutout.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"Expected a cut-out of something visible. Found nothing in {file}.")
    return cutout.crop(box)


def is_solid(cutout: Image.Image) -> bool:
    """Whether enough of a cut-out is opaque to be seen in a scene; a fishing rod is too thin."""
    opaque = np.asarray(cutout.getchannel("A")) >= OPAQUE
    return float(opaque.mean()) >= LEAST_OPAQUE
