"""A panel shows six tiles, and its text keeps to its place."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from saliency_vae.runtime.text import printable
from saliency_vae.visualization import Sample
from saliency_vae.visualization import panel as module
from saliency_vae.visualization.explanation import Explanation
from saliency_vae.visualization.overlay import as_rgb, overlay, without_border
from saliency_vae.visualization.panel import display_size, displayed, draw_panel
from tests.helpers.explanations import explanation as explained
from tests.helpers.explanations import source, view

HEIGHT, WIDTH = 200, 256
TOP, LEFT, STEP = module._HEADER, module._GAP, WIDTH + module._GAP


def explanation(height: int = HEIGHT, width: int = WIDTH) -> Explanation:
    """An explanation whose maps have the size that they are shown at."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    mean = torch.randn(height, width, generator=generator)
    mean[:, : width // 4] = float("nan")
    return explained(
        source("photo.jpg", image.numpy()),
        torch.stack([mean, mean.abs() / 2 + 0.1, mean.sigmoid()]),
        image=image / 255,
        kept=torch.rand(3, 2 * height, 2 * width, generator=generator),
        prediction=[("goldfish", 0.7), ("shark", 0.2), ("ray", 0.1)],
    )


def named(shown: Explanation, name: str) -> Explanation:
    return replace(shown, source=replace(shown.source, name=name))


def predicted(shown: Explanation, *shares: tuple[str, float]) -> Explanation:
    return replace(shown, original=view(shown.original.image, *shares))


def tile(picture: Image.Image, column: int) -> np.ndarray:
    left = LEFT + column * STEP
    return np.asarray(picture.crop((left, TOP, left + WIDTH, TOP + HEIGHT)))


def difference(one: Explanation, other: Explanation) -> tuple[int, int, int, int]:
    """Smallest box (left, top, right, bottom) outside of which two panels are equal."""
    box = ImageChops.difference(draw_panel(one), draw_panel(other)).getbbox()
    assert box is not None
    return box


def test_six_tiles() -> None:
    shown = explanation()
    mean, stddev, inclusion = shown.maps
    image = torch.from_numpy(shown.source.shown)
    picture = draw_panel(shown)
    assert picture.size == (6 * STEP + LEFT, HEIGHT + module._HEADER + module._FOOTER)
    low, high = (float(value) for value in mean[:, WIDTH // 4 :].aminmax())
    drawn = shown.source.restore(without_border(stddev))
    most = float(drawn[drawn.isfinite()].max())
    kept = Image.fromarray(as_rgb(shown.kept.image)).resize(
        (WIDTH, HEIGHT), Image.Resampling.HAMMING
    )
    expected = [
        as_rgb(image),
        overlay(image, mean, colours="viridis", scale=(low, high)),
        overlay(image, drawn, colours="magma", scale=(0, most)),
        overlay(image, inclusion, colours="cividis", scale=(0, 1)),
        np.asarray(kept),
        np.zeros((HEIGHT, WIDTH, 3)),
    ]
    for column, pixels in enumerate(expected):
        np.testing.assert_array_equal(tile(picture, column), pixels)


def test_samples_are_maps_above_their_kept_views() -> None:
    shown = explanation()
    scores = [shown.maps[1], shown.maps[1].flip(0) - 1]
    measured, white = shown.measured, view(torch.ones(3, HEIGHT, WIDTH), ("cat", 1.0))
    picture = draw_panel(replace(shown, drawn=[Sample(s, white, measured) for s in scores]))
    row = HEIGHT + module._HEADER + module._FOOTER
    assert picture.size == (6 * STEP + LEFT, 3 * row)
    values = torch.stack(scores)
    finite = values[values.isfinite()]
    scale = float(finite.min()), float(finite.max())
    image = torch.from_numpy(shown.source.shown)
    for column, sample in enumerate(scores):
        below = picture.crop((0, row, picture.width, 2 * row))
        np.testing.assert_array_equal(tile(below, column), overlay(image, sample, scale=scale))
        kept = picture.crop((0, 2 * row, picture.width, 3 * row))
        assert (tile(kept, column) == 255).all()


def test_a_png_of_it_opens() -> None:
    file = BytesIO()
    draw_panel(explanation()).save(file, "PNG")
    with Image.open(file) as picture:
        picture.load()
        assert picture.format == "PNG"


def test_the_scale_is_stated() -> None:
    """Another range of the same colours changes nothing but the numbers below its bar."""
    shown = explanation()
    scales = torch.tensor([4.0, 1.0, 1.0])[:, None, None]
    left, top, right, bottom = difference(shown, replace(shown, maps=scales * shown.maps))
    assert LEFT + STEP <= left < right <= LEFT + STEP + WIDTH
    assert TOP + HEIGHT + 18 <= top < bottom <= TOP + HEIGHT + 40


def test_the_target_and_the_measures_are_in_the_title() -> None:
    shown = explanation()
    asked = replace(shown, target="shark")
    left, _, _, bottom = difference(shown, asked)
    assert module._font(15).getlength("photo.jpg") <= left - LEFT + 1
    assert bottom < module._HEADER - 22
    again = replace(asked, measured=replace(shown.measured, on_left_out_view=0.25))
    left, _, _, bottom = difference(asked, again)  # the necessity
    assert left > 5 * STEP
    assert bottom < module._HEADER - 22
    lost = replace(asked, measured=replace(shown.measured, decision_lost=True))
    left, top, _, bottom = difference(asked, lost)  # the caption of the left-out view
    assert left >= LEFT + 5 * STEP
    assert module._HEADER - 22 <= top < bottom <= module._HEADER


def test_an_image_unlike_the_trainings_is_said_in_the_title() -> None:
    shown = explanation()
    left, _, _, bottom = difference(shown, replace(shown, out_of_depth=True))
    assert left > WIDTH
    assert bottom < module._HEADER - 22
    known = draw_panel(replace(shown, out_of_depth=False))
    assert ImageChops.difference(draw_panel(shown), known).getbbox() is None


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (256, 16), (16, 256)])
def test_long_texts_stay_in_their_places(size: tuple[int, int]) -> None:
    short, words = explanation(*size), "W" * 300
    picture = draw_panel(short)
    column = max(size[1], module._COLUMN)
    below = module._HEADER + size[0]
    _, top, right, bottom = difference(short, named(short, words))
    numbers = module._font(15).getlength(f"top 10 %: {short.measured}")
    assert right <= picture.width - LEFT - numbers - LEFT
    assert top >= 0
    assert bottom < module._HEADER - 22  # above the captions
    long = [(words, probability) for _, probability in short.original.prediction]
    left, top, right, bottom = difference(short, predicted(short, *long))
    percent = module._font(12).getlength("70.0 %")
    assert LEFT <= left < right <= LEFT + column - percent
    assert below < top < bottom <= picture.height


@pytest.mark.parametrize("name", ["two\nlines\x1b[31m", "caf\udce9", "<b>&[red]", ""])
def test_any_file_name_can_be_drawn(name: str) -> None:
    assert printable(name).isprintable()
    printable(name).encode()
    draw_panel(named(explanation(20, 30), name))


def test_constant_and_missing_maps_can_be_drawn() -> None:
    for value in (0.0, float("nan")):
        flat = torch.full((3, HEIGHT, WIDTH), value)
        picture = draw_panel(replace(explanation(), maps=flat))
        if value != value:  # nothing is laid over the image
            np.testing.assert_array_equal(tile(picture, 2), tile(picture, 0))


def test_a_single_label_is_one_row() -> None:
    difference(explanation(), predicted(explanation(), ("cat", 0.7)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((256, 256), (256, 256)),
        ((48, 48), (256, 256)),
        ((3000, 4000), (192, 256)),
        ((1, 5000), (16, 256)),
        ((5000, 1), (256, 16)),
        ((1, 1), (256, 256)),
    ],
)
def test_display_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert display_size(size) == expected
    assert displayed(Image.new("RGB", size[::-1])).shape == (3, *expected)


def test_small_images_are_shown_as_squares() -> None:
    small = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    shown = displayed(Image.fromarray(small)).transpose(1, 2, 0)
    np.testing.assert_array_equal(shown, small.repeat(4, 0).repeat(4, 1))
