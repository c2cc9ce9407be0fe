"""One picture that explains one image: overlays with their scales, views, predictions."""

import math
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from saliency_vae.runtime.text import as_percent, printable
from saliency_vae.visualization.explanation import (
    UNLIKE,
    ClassifiedView,
    Explanation,
    Prediction,
)
from saliency_vae.visualization.overlay import (
    Pixels,
    as_rgb,
    colour,
    limits,
    overlay,
    without_border,
)

TILE = 256  # pixels of a shown image's longer side
THINNEST = 16  # least pixels of its shorter side
_COLUMN = 176  # least pixels of a column: room for text under a narrow image
_COLUMNS = 6
_GAP = 14
_HEADER = 54
_FOOTER = 76
_INK, _FAINT, _PAPER = (24, 24, 27), (113, 113, 122), (255, 255, 255)
_BAR, _FILLED = (244, 244, 245), (191, 219, 254)


def draw_panel(explanation: Explanation) -> Image.Image:
    """Draw six tiles: image, mean, stddev, inclusion probability, kept and left-out view.

    Below them are the samples on one scale, each above its kept view. The mean is scaled to its
    own values, the stddev from 0 to its highest value, the inclusion probability from 0 to 1. The
    stddev is drawn without its outermost pixels, see :func:`without_border`.
    """
    source, share = explanation.source, f"{100 * explanation.fraction:.3g} %"
    shown = _by_pixel(source.shown)
    _, height, width = shown.shape
    mean, stddev, inclusion = explanation.maps
    restored = source.restore(
        torch.stack([mean, without_border(stddev), inclusion]), (height, width)
    )
    rows = 1 + 2 * math.ceil(len(explanation.drawn) / _COLUMNS)
    sheet = _Sheet(height=height, width=width, rows=rows)
    asked = f", asked about: {explanation.asked}" if explanation.asked else ""
    unlike = f"{UNLIKE}; " if explanation.out_of_depth else ""
    sheet.title(f"{source.name}{asked}", f"{unlike}top {share}: {explanation.measured}")
    sheet.tile(0, "image", as_rgb(shown))
    sheet.predictions(0, explanation.original.prediction)
    lowest, most = limits(restored[0]), limits(restored[1])[1]
    for column, caption, colours, scale in (
        (1, "posterior mean", "viridis", lowest),
        (2, "posterior stddev", "magma", (0.0, most)),
        (3, f"P(among top {share})", "cividis", (0.0, 1.0)),
    ):
        values = restored[column - 1]
        sheet.tile(column, caption, overlay(shown, values, colours=colours, scale=scale))
        sheet.colour_bar(column, colours, scale)
    measured = explanation.measured
    stays = "stays" if measured.decision_stays else "changes"
    lost = "lost" if measured.decision_lost else "stays"
    sheet.view(4, f"top {share} kept: decision {stays}", explanation.kept)
    sheet.view(5, f"top {share} left out: decision {lost}", explanation.left_out)
    if explanation.drawn:
        _draw_samples(sheet, explanation, shown)
    return sheet.picture


def _draw_samples(sheet: "_Sheet", explanation: Explanation, shown: Tensor) -> None:
    """Draw the samples from the second row on: a row of maps, and their kept views below it."""
    scores = torch.stack([sample.scores for sample in explanation.drawn])
    maps, scale = explanation.source.restore(scores, (sheet.height, sheet.width)), limits(scores)
    samples = zip(explanation.drawn, explanation.overlaps, strict=True)
    for number, (sample, overlap) in enumerate(samples):
        row, column = divmod(number, _COLUMNS)
        cell = (1 + 2 * row) * _COLUMNS + column
        caption = f"sample {number + 1}, overlap with the mean {100 * overlap:.0f} %"
        sheet.tile(cell, caption, overlay(shown, maps[number], scale=scale))
        sheet.colour_bar(cell, "viridis", scale)
        sheet.view(cell + _COLUMNS, f"{number + 1} kept: {sample.measured}", sample.kept)


def _by_pixel(image: Pixels) -> Tensor:
    """Convert an image (3, H, W) to a tensor in channels-last memory, as it is drawn."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(1, 2, 0))).permute(2, 0, 1)


def display_size(size: tuple[int, int]) -> tuple[int, int]:
    """Find the height and width at which an image of a size (height, width) is shown."""
    scale = TILE / max(size)
    height, width = (max(THINNEST, round(side * scale)) for side in size)
    return height, width


def displayed(image: Image.Image) -> Pixels:
    """Scale an RGB image for display: (3, H, W)."""
    height, width = display_size((image.height, image.width))
    return np.array(_resized(image, (width, height))).transpose(2, 0, 1)


class _Sheet:
    """A picture of six columns: tiles with a caption above, and a scale or predictions below.

    Cells are counted row by row.

    Args:
        height: Height of each tile in pixels.
        width: Width of each tile in pixels.
        rows: Number of rows of tiles.
    """

    def __init__(self, *, height: int, width: int, rows: int) -> None:
        self.height, self.width = height, width
        self.column = max(width, _COLUMN)
        size = _COLUMNS * (self.column + _GAP) + _GAP, rows * self._row_height
        self.picture = Image.new("RGB", size, _PAPER)
        self.draw = ImageDraw.Draw(self.picture)

    def title(self, left: str, right: str) -> None:
        end = self.picture.width - _GAP
        self.text((end, 8), right, 15, right=True)
        room = end - _length(right, 15) - 2 * _GAP
        self.text((_GAP, 8), _fitting(left, 15, room), 15)

    def text(
        self,
        place: tuple[int, int],
        text: str,
        size: int,
        colour: tuple[int, int, int] = _INK,
        *,
        right: bool = False,
    ) -> None:
        """Write a text that starts at a position or, if ``right``, ends there."""
        mask, (x, y) = _drawn(text, size, "ra" if right else "la")
        self.picture.paste(colour, (place[0] + x, place[1] + y), mask)

    def tile(self, cell: int, caption: str, pixels: Pixels) -> None:
        left = self._left(cell)
        above = self._top(cell)
        text = _fitting(caption, 12, self.column)
        self.text((left, above - 20), text, 12, _FAINT)
        image = Image.fromarray(pixels)
        scale = min(self.width / image.width, self.height / image.height)
        width, height = (max(1, int(side * scale)) for side in image.size)
        corner = left + (self.width - width) // 2, above + (self.height - height) // 2
        self.picture.paste(_resized(image, (width, height)), corner)

    def view(self, cell: int, caption: str, view: ClassifiedView) -> None:
        self.tile(cell, caption, as_rgb(view.image))
        self.predictions(cell, view.prediction)

    def colour_bar(self, cell: int, colours: str, scale: tuple[float, float]) -> None:
        left, top = self._left(cell), self._below(cell)
        self.picture.paste(_ramp(colours, self.column), (left, top))
        low, high = (f"{value:.3g}" for value in scale)
        self.text((left, top + 13), low, 11, _FAINT)
        self.text((left + self.column, top + 13), high, 11, _FAINT, right=True)

    def predictions(self, cell: int, predictions: Prediction) -> None:
        left = self._left(cell)
        right = left + self.column
        for index, (label, probability) in enumerate(predictions):
            top = self._below(cell) + 20 * index
            self.draw.rectangle((left, top, right, top + 15), fill=_BAR)
            filled = left + self.column * probability
            self.draw.rectangle((left, top, filled, top + 15), fill=_FILLED)
            percent = as_percent(probability)
            self.text((right - 4, top), percent, 12, right=True)
            room = self.column - _length(percent, 12) - 16
            self.text((left + 4, top), _fitting(label, 12, room), 12)

    @property
    def _row_height(self) -> int:
        return _HEADER + self.height + _FOOTER

    def _left(self, cell: int) -> int:
        return _GAP + cell % _COLUMNS * (self.column + _GAP)

    def _top(self, cell: int) -> int:
        return cell // _COLUMNS * self._row_height + _HEADER

    def _below(self, cell: int) -> int:
        return self._top(cell) + self.height + 8


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize to (width, height); when enlarged twice or more, pixels stay squares.

    The Hamming filter looks as sharp as Lanczos here, and takes a third of the time.
    """
    if size == image.size:
        return image
    enlarged = size[0] >= 2 * image.width
    return image.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.HAMMING)


@lru_cache(1024)
def _fitting(text: str, size: int, room: float) -> str:
    """Shorten a text to fit a width in pixels."""
    text = printable(text)
    if _length(text, size) <= room:
        return text
    while text and _length(f"{text}…", size) > room:
        text = text[:-1]
    return f"{text}…"


@lru_cache(1024)
def _length(text: str, size: int) -> float:
    """Measure the width of a text in pixels."""
    return _font(size).getlength(text)


@lru_cache(1024)
def _drawn(text: str, size: int, anchor: str) -> tuple[Image.Image, tuple[int, int]]:
    """Draw a text as a mask with its offset; cached, as most texts are in many panels."""
    left, top, right, bottom = (round(side) for side in _font(size).getbbox(text, anchor=anchor))
    mask = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=_font(size), anchor=anchor)
    return mask, (left, top)


@cache
def _ramp(colours: str, width: int) -> Image.Image:
    """Draw a colour map from its lowest to its highest colour."""
    return Image.fromarray(colour(torch.linspace(0, 1, width).expand(10, -1), colours, (0.0, 1.0)))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib's font, because it has more scripts than Pillow's.
    return ImageFont.truetype(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
