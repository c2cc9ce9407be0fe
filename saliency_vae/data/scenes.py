"""Scenes with known object masks: transparent cut-outs pasted on a photograph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

_SIDES = (0.35, 0.75)  # longer side of a single object, as a share of the image's side
_CROPS = (0.5, 1.0)  # side of the photograph's crop, as a share of its shorter side
_FEATHER = 0.6  # pixels; a photograph has no edge sharper than this
OPAQUE = 128  # alpha from which a pixel belongs to the object
_MOST_OVERLAP = 0.2  # share of an object's box that another object's box may cover
_TRIES = 30  # most attempts to place an object

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, eq=False)
class Layer:
    """An object at its place in a scene.

    Attributes:
        picture: The object at its size in the scene, RGB.
        alpha: Its opacity, with blended edges.
        box: Its bounding box in the scene.
    """

    picture: Image.Image
    alpha: Image.Image
    box: Box

    def paste_on(self, canvas: Image.Image) -> None:
        """Paste the object on a canvas, which is changed in place."""
        canvas.paste(self.picture, self.box[:2], self.alpha)

    def mask(self, image_size: int) -> NDArray[np.bool_]:
        """Pixels of the object, (H, W)."""
        left, top, right, bottom = self.box
        mask = np.zeros((image_size, image_size), dtype=np.bool_)
        mask[top:bottom, left:right] = np.asarray(self.alpha) >= OPAQUE
        return mask


@dataclass(frozen=True, eq=False)
class Scene:
    """A photograph with objects.

    Attributes:
        image: Photograph with the objects, (H, W, 3).
        empty: The same photograph without them, (H, W, 3).
        masks: Visible pixels of each object, (n, H, W).
        layers: The objects at their places, the farthest first.
    """

    image: NDArray[np.uint8]
    empty: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    layers: tuple[Layer, ...]

    def alone(self, index: int) -> NDArray[np.uint8]:
        """Photograph with only one of the objects, at its place in the scene, (H, W, 3)."""
        canvas = Image.fromarray(self.empty)
        self.layers[index].paste_on(canvas)
        return np.asarray(canvas)


def compose(
    objects: Sequence[Image.Image],
    photograph: Image.Image,
    *,
    image_size: int,
    rng: np.random.Generator,
) -> Scene:
    """Paste objects on a random crop of a photograph, at random places, in random sizes.

    Crop and objects may be mirrored. The more objects, the smaller they are. Edges are blended over
    about a pixel, as in a camera image.

    Args:
        objects: RGBA images, the farthest first.
        photograph: RGB image.
        image_size: Height and width of the scene in pixels.
        rng: Random number generator.
    """
    canvas = _crop(photograph, image_size, rng)
    empty = np.asarray(canvas)
    layers: list[Layer] = []
    masks: list[NDArray[np.bool_]] = []
    for original in objects:
        pasted = _resize(original, image_size / len(objects) ** 0.5, rng)
        box = _place(pasted.size, image_size, [layer.box for layer in layers], rng)
        alpha = pasted.getchannel("A").filter(ImageFilter.GaussianBlur(_FEATHER))
        layer = Layer(pasted.convert("RGB"), alpha, box)
        layer.paste_on(canvas)
        mask = layer.mask(image_size)
        masks = [*(earlier & ~mask for earlier in masks), mask]  # this object is nearer
        layers.append(layer)
    return Scene(np.asarray(canvas), empty, np.stack(masks), tuple(layers))


def _crop(photograph: Image.Image, image_size: int, rng: np.random.Generator) -> Image.Image:
    """Cut a random square out of a photograph, perhaps mirrored."""
    side = min(photograph.size) * rng.uniform(*_CROPS)
    left, top = (rng.uniform(0, length - side) for length in photograph.size)
    cut = photograph.resize(
        (image_size, image_size),
        Image.Resampling.BICUBIC,
        box=(left, top, left + side, top + side),
        reducing_gap=2.0,
    )
    return ImageOps.mirror(cut) if rng.random() < 0.5 else cut


def _resize(original: Image.Image, unit: float, rng: np.random.Generator) -> Image.Image:
    """Scale an object to a random share of ``unit`` pixels, perhaps mirrored."""
    scale = unit * rng.uniform(*_SIDES) / max(original.size)
    width, height = (max(1, round(scale * length)) for length in original.size)
    resized = original.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return ImageOps.mirror(resized) if rng.random() < 0.5 else resized


def _place(
    size: tuple[int, int], image_size: int, taken: Sequence[Box], rng: np.random.Generator
) -> Box:
    """Choose a box among random places of a given size: the one that overlaps others least."""
    width, height = size
    best, least = (0, 0, width, height), float("inf")
    for _ in range(_TRIES):
        left, top = (int(rng.integers(image_size - length + 1)) for length in size)
        box = left, top, left + width, top + height
        overlap = max((_overlap(box, other) for other in taken), default=0.0)
        if overlap < least:
            best, least = box, overlap
        if overlap <= _MOST_OVERLAP:
            break
    return best


def _overlap(one: Box, other: Box) -> float:
    """Area that two boxes share, as a share of the smaller box."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return max(0, width) * max(0, height) / min(areas)
