"""Maps over images: the image's own colours, the stated scale, and nothing shown wrongly."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from torch import Tensor

from saliency_vae.visualization.overlay import (
    OPACITY,
    as_rgb,
    colour,
    limits,
    overlay,
    rescaled,
)


def image(height: int = 6, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def ramp(height: int = 6, width: int = 5) -> Tensor:
    return torch.linspace(-2, 3, height * width).view(height, width)


def test_each_pixel_is_the_stated_blend() -> None:
    pixels, values = image(), ramp()
    result = overlay(pixels, values, colours="magma", scale=(-2, 3))
    assert result.dtype == np.uint8
    for y in range(6):
        for x in range(5):
            share = (float(values[y, x]) + 2) / 5
            wanted = colormaps["magma"](share, bytes=True)[:3]
            for channel in range(3):
                own = int(pixels[channel, y, x])
                blend = (1 - OPACITY) * own + OPACITY * float(wanted[channel])
                assert abs(result[y, x, channel] - blend) <= 0.5 + 1e-9


def test_the_originals_colours_remain() -> None:
    red_and_blue = torch.zeros(3, 4, 8, dtype=torch.uint8)
    red_and_blue[0, :, :4] = red_and_blue[2, :, 4:] = 255
    flat = overlay(red_and_blue, torch.zeros(4, 8), scale=(0, 1)).astype(int)
    difference = flat[0, 0] - flat[0, 7]
    assert difference.tolist() == pytest.approx(
        [255 * (1 - OPACITY), 0, -255 * (1 - OPACITY)], abs=1
    )


def test_float_and_uint8_give_the_same() -> None:
    as_float = image().float() / 255
    for other in (as_float, as_float.double(), as_float.half()):
        np.testing.assert_array_equal(
            overlay(other, ramp(), scale=(0, 1)), overlay(image(), ramp(), scale=(0, 1))
        )


def test_rounding_errors_of_a_float_image_are_no_error() -> None:
    barely = torch.tensor([-1e-6, 1 + 1e-6]).expand(3, 1, 2)
    assert as_rgb(barely)[0].tolist() == [[0] * 3, [255] * 3]


@pytest.mark.parametrize(
    "wrong",
    [
        (image().float() / 255 - 0.45) / 0.226,  # normalised
        image().float(),  # 0 to 255
        torch.full((3, 2, 2), float("nan")),
        image().long(),
        image()[:1],
        image()[None],
    ],
    ids=["normalised", "to 255", "nan", "int64", "grey", "batch"],
)
def test_what_is_no_image_is_refused(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^Expected .* Found "):
        overlay(wrong, torch.zeros(wrong.shape[-2:]), scale=(0, 1))


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(6, 5\).*\(5, 6\)"):
        overlay(image(), ramp(5, 6), scale=(0, 1))


@pytest.mark.parametrize("value", [0.0, -7.5, 1e20])
def test_a_constant_map_has_one_colour(value: float) -> None:
    values = torch.full((6, 5), value)
    scale = limits(values)
    assert scale == pytest.approx((value, value))
    colours = colour(values, "viridis", scale)
    lowest = colormaps["viridis"](0, bytes=True)[:3]
    assert (colours == lowest).all()


def test_a_map_of_nothing_leaves_the_image() -> None:
    values = torch.full((6, 5), float("nan"))
    assert limits(values) == (0, 0)
    np.testing.assert_array_equal(overlay(image(), values, scale=limits(values)), as_rgb(image()))


def test_the_image_is_left_as_it_is_where_the_map_is_nan() -> None:
    values = ramp()
    values[:, 0] = float("nan")
    assert limits(values) == (float(ramp()[0, 1]), 3)
    result = overlay(image(), values, scale=(-2, 3))
    np.testing.assert_array_equal(result[:, 0], as_rgb(image())[:, 0])
    np.testing.assert_array_equal(result[:, 1:], overlay(image(), ramp(), scale=(-2, 3))[:, 1:])


def test_values_beyond_the_scale_have_the_colours_of_its_ends() -> None:
    values = torch.tensor([[-5.0, 0.0, 1.0, 9.0, float("inf")]])
    colours = colour(values, "viridis", (0, 1))[0].tolist()
    assert colours[0] == colours[1]
    assert colours[2] == colours[3] == colours[4] != colours[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scale_becomes_0_to_1(dtype: torch.dtype) -> None:
    values = torch.tensor([[-1.0, 3.0], [float("nan"), float("inf")]], dtype=dtype)
    scaled = rescaled(values)
    assert scaled.dtype == dtype
    assert scaled[0].tolist() == [0, 1]
    assert scaled[1, 0].isnan()
    assert rescaled(values, (1, 5))[0].tolist() == [-0.5, 0.5]
    assert (rescaled(torch.full((2, 3), -7.5, dtype=dtype)) == 0).all()
