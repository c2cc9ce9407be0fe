"""One picture that explains one image: overlays with their scales, kept view, predictions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from saliency_vae.runtime.text import printable
from saliency_vae.visualization.overlay import Pixels, as_rgb, colour, limits, overlay

TILE = 256  # pixels of a shown image's longer side
THINNEST = 16  # pixels of its shorter side at least
_COLUMN = 176  # pixels of a column at least: room for text under a narrow image
_COLUMNS = 5
_GAP = 14
_HEADER = 54
_FOOTER = 76
_INK, _FAINT, _PAPER = (24, 24, 27), (113, 113, 122), (255, 255, 255)
_BAR, _FILLED = (244, 244, 245), (191, 219, 254)

Prediction = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Panel:
    """What a panel shows of an image.

    Attributes:
        name: Of the image.
        image: As it is to be shown, (3, H, W) uint8; the maps are of its size.
        mean: Posterior mean, (H, W); NaN where the classifier did not look.
        stddev: Posterior stddev, (H, W).
        inclusion: Probability of being among the top pixels, (H, W).
        kept_view: What the classifier is shown, (3, h, w) in [0, 1].
        fraction: Of the pixels kept.
        confidence: Of the explanation, in [0, 1].
        predictions: Of the image: classes and probabilities.
        kept_predictions: Of the kept view.
        samples: Kept views of maps drawn from the posterior, and their predictions.
    """

    name: str
    image: Tensor
    mean: Tensor
    stddev: Tensor
    inclusion: Tensor
    kept_view: Tensor
    fraction: float
    confidence: float
    predictions: Prediction
    kept_predictions: Prediction
    samples: Sequence[tuple[Tensor, Prediction]] = ()


def draw_panel(panel: Panel) -> Image.Image:
    """Draw five tiles: image, mean, stddev, inclusion probability, kept view; then the samples."""
    image, share = panel.image, f"{100 * panel.fraction:.3g} %"
    rows = 1 + math.ceil(len(panel.samples) / _COLUMNS)
    sheet = _Sheet(height=image.shape[-2], width=image.shape[-1], rows=rows)
    sheet.title(panel.name, f"confidence {panel.confidence:.2f}")
    sheet.tile(0, "image", as_rgb(image))
    sheet.predictions(0, panel.predictions)
    low, high = limits(panel.mean)
    _, most = limits(panel.stddev)
    for column, caption, values, colours, scale in (
        (1, "posterior mean", panel.mean, "viridis", (low, high)),
        (2, "posterior stddev", panel.stddev, "magma", (0.0, most)),
        (3, f"P(among top {share})", panel.inclusion, "cividis", (0.0, 1.0)),
    ):
        sheet.tile(column, caption, overlay(image, values, colours=colours, scale=scale))
        sheet.colour_bar(column, colours, scale)
    sheet.tile(4, f"top {share} kept", as_rgb(panel.kept_view))
    sheet.predictions(4, panel.kept_predictions)
    for cell, (kept_view, predictions) in enumerate(panel.samples, start=_COLUMNS):
        sheet.tile(cell, f"sample {cell - _COLUMNS + 1}: top {share} kept", as_rgb(kept_view))
        sheet.predictions(cell, predictions)
    return sheet.picture


def display_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width at which an image of a size (height, width) is shown."""
    scale = TILE / max(size)
    height, width = (max(THINNEST, round(side * scale)) for side in size)
    return height, width


def displayed(image: Image.Image) -> Pixels:
    """Scale an RGB image for display: (3, H, W)."""
    height, width = display_size((image.height, image.width))
    return np.array(_resized(image, (width, height))).transpose(2, 0, 1)


class _Sheet:
    """Paper of five columns: a tile, what it is above, its scale or predictions below.

    Cells are counted row by row.
    """

    def __init__(self, *, height: int, width: int, rows: int) -> None:
        self.height, self.width = height, width
        self.column = max(width, _COLUMN)
        size = _COLUMNS * (self.column + _GAP) + _GAP, rows * self._row_height
        self.picture = Image.new("RGB", size, _PAPER)
        self.draw = ImageDraw.Draw(self.picture)

    def title(self, left: str, right: str) -> None:
        font, end = _font(15), self.picture.width - _GAP
        self.draw.text((end, 8), right, fill=_INK, font=font, anchor="ra")
        room = end - font.getlength(right) - 2 * _GAP
        self.draw.text((_GAP, 8), _fitting(left, font, room), fill=_INK, font=font)

    def tile(self, cell: int, caption: str, pixels: Pixels) -> None:
        left = self._left(cell)
        above = self._top(cell)
        self.draw.text((left, above - 20), caption, fill=_FAINT, font=_font(12))
        image = Image.fromarray(pixels)
        scale = min(self.width / image.width, self.height / image.height)
        width, height = (max(1, int(side * scale)) for side in image.size)
        corner = left + (self.width - width) // 2, above + (self.height - height) // 2
        self.picture.paste(_resized(image, (width, height)), corner)

    def colour_bar(self, cell: int, colours: str, scale: tuple[float, float]) -> None:
        left, top = self._left(cell), self._below(cell)
        ramp = torch.linspace(0, 1, self.column).expand(10, -1)
        self.picture.paste(Image.fromarray(colour(ramp, colours, (0.0, 1.0))), (left, top))
        for x, value, anchor in zip((left, left + self.column), scale, ("la", "ra"), strict=True):
            text = f"{value:.3g}"
            self.draw.text((x, top + 13), text, fill=_FAINT, font=_font(11), anchor=anchor)

    def predictions(self, cell: int, predictions: Prediction) -> None:
        left, font = self._left(cell), _font(12)
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
    """Resize to (width, height); pixels that are much enlarged stay squares."""
    enlarged = size[0] >= 2 * image.width
    return image.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)


def _fitting(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """As much of a text as fits into a room in pixels."""
    text = printable(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib's own: it knows more scripts than Pillow's.
    return ImageFont.truetype(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
