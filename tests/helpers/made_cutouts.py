"""Cut-outs and photographs made for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def cutout(size: tuple[int, int] = (40, 60), colour: int = 250) -> Image.Image:
    """An opaque ellipse on transparent ground, RGBA; size is (width, height)."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width]
    inside = ((columns + 0.5) / width - 0.5) ** 2 + ((rows + 0.5) / height - 0.5) ** 2 <= 0.25
    pixels = np.zeros((height, width, 4), dtype=np.uint8)
    pixels[inside] = (colour, 20, 20, 255)
    return Image.fromarray(pixels)


def photograph(seed: int = 0, size: tuple[int, int] = (90, 70)) -> Image.Image:
    """Dark noise, RGB; size is (width, height)."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8))


def write_all(directory: Path, *, number: int = 24, groups: bool = False) -> list[str]:
    """Write cut-outs and photographs; returns the settings that name their directories."""
    for name in ("cutouts", "backgrounds"):
        (directory / name).mkdir(parents=True)
    for index in range(number):
        cutout(colour=130 + 5 * index).save(directory / f"cutouts/{index:02d}.png")
        photograph(index).save(directory / f"backgrounds/{index:02d}.png")
    if groups:
        lines = [f"cutouts/{index:02d}.png thing{index // 2}" for index in range(number)]
        (directory / "groups.txt").write_text("\n".join(lines))
    return [f"data.{name}={directory / name}" for name in ("cutouts", "backgrounds")]
