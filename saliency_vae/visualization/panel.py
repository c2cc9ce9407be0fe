"""One picture that explains one image: overlays with their scales, views, predictions."""

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from saliency_vae.runtime.text import printable
from saliency_vae.visualization.explanation import ClassifiedView, Explanation, Prediction
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

    Below them are the kept views of the samples. The scale of each map is that of its values;
    the stddev is drawn without its outermost pixels, see :func:`without_border`.
    """
    source, share = explanation.source, f"{100 * explanation.fraction:.3g} %"
    shown = torch.from_numpy(source.shown)
    _, height, width = shown.shape
    mean, stddev, inclusion = explanation.maps
    restored = source.restore(
        torch.stack([mean, without_border(stddev), inclusion]), (height, width)
    )
    rows = 1 + math.ceil(len(explanation.drawn) / _COLUMNS)
    sheet = _Sheet(height=height, width=width, rows=rows)
    asked = "" if explanation.target is None else f", asked about: {explanation.target}"
    sheet.title(f"{source.name}{asked}", f"top {share}: {explanation.measured}")
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
    for number, sample in enumerate(explanation.drawn, start=1):
        sheet.view(_COLUMNS + number - 1, f"sample {number}: {sample.measured}", sample.kept)
    return sheet.picture


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
        self.large, self.medium, self.small = (_font(size) for size in (15, 12, 11))

    def title(self, left: str, right: str) -> None:
        font, end = self.large, self.picture.width - _GAP
        self.draw.text((end, 8), right, fill=_INK, font=font, anchor="ra")
        room = end - font.getlength(right) - 2 * _GAP
        self.draw.text((_GAP, 8), _fitting(left, font, room), fill=_INK, font=font)

    def tile(self, cell: int, caption: str, pixels: Pixels) -> None:
        left = self._left(cell)
        above = self._top(cell)
        text = _fitting(caption, self.medium, self.column)
        self.draw.text((left, above - 20), text, fill=_FAINT, font=self.medium)
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
        ramp = torch.linspace(0, 1, self.column).expand(10, -1)
        self.picture.paste(Image.fromarray(colour(ramp, colours, (0.0, 1.0))), (left, top))
        for x, value, anchor in zip((left, left + self.column), scale, ("la", "ra"), strict=True):
            text = f"{value:.3g}"
            self.draw.text((x, top + 13), text, fill=_FAINT, font=self.small, anchor=anchor)

    def predictions(self, cell: int, predictions: Prediction) -> None:
        left, font = self._left(cell), self.medium
        right = left + self.column
        for index, (label, probability) in enumerate(predictions):
            top = self._below(cell) + 20 * index
            self.draw.rectangle((left, top, right, top + 15), fill=_BAR)
            filled = left + self.column * probability
            self.draw.rectangle((left, top, filled, top + 15), fill=_FILLED)
            percent = f"{probability:.1%}"
            self.draw.text((right - 4, top), percent, fill=_INK, font=font, anchor="ra")
            room = self.column - font.getlength(percent) - 16
            self.draw.text((left + 4, top), _fitting(label, font, room), fill=_INK, font=font)

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
    """Resize to (width, height); pixels that are enlarged twice or more stay squares."""
    enlarged = size[0] >= 2 * image.width
    return image.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)


def _fitting(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Shorten a text to what fits into a number of pixels."""
    text = printable(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib's font, because it has more scripts than Pillow's.
    return ImageFont.truetype(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
