"""The gallery: pictures of maps, and what is said about each image."""

import base64
from io import BytesIO

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from saliency_vae.evaluation.report.gallery import Caption, gallery_figure, gallery_rows
from saliency_vae.evaluation.roles import Role
from saliency_vae.visualization.overlay import colour, limits
from tests.helpers.constructed_results import several

EXPLAINER = "this explainer"


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def picture(source: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(source.partition(",")[2])))


def test_gallery_pictures_are_the_maps_over_their_own_range() -> None:
    values = torch.linspace(-3, 5, 24 * 24).view(1, 24, 24)
    images, masks = noise(1, 3, 24, 24), noise(1, 24, 24) > 0.5
    maps = {"explainer": values, "random": 0 * values}
    rows = gallery_rows(images, maps, masks, roles=several().roles)
    assert [(row["name"], row["role"]) for row in rows] == [
        ("image", "given"),
        ("true mask", "given"),
        (EXPLAINER, Role.EXPLAINER),
        ("random", Role.CONTROL),
    ]
    photo, mask, scaled, flat = (np.asarray(picture(r["pictures"][0]).convert("RGB")) for r in rows)
    np.testing.assert_allclose(
        photo / 255, images[0].permute(1, 2, 0).numpy(), atol=0.5 / 255 + 1e-6
    )
    assert np.array_equal(mask[..., 0] > 127, masks[0].numpy())
    viridis = colormaps["viridis"]
    assert scaled[0, 0].tolist() == list(viridis(0, bytes=True)[:3])
    assert scaled[-1, -1].tolist() == list(viridis(255, bytes=True)[:3])
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1


def test_large_maps_are_shrunk() -> None:
    maps = {"explainer": noise(1, 320, 480)}
    rows = gallery_rows(noise(1, 3, 320, 480), maps, None, roles={"explainer": Role.EXPLAINER})
    assert [picture(row["pictures"][0]).size for row in rows] == [(160, 107), (160, 107)]


def test_images_without_a_map_stay_empty() -> None:
    maps, roles = {"rise": noise(2, 24, 24)}, {"rise": Role.RIVAL}
    rows = gallery_rows(noise(3, 3, 24, 24), maps, None, roles=roles)
    assert [picture is None for picture in rows[1]["pictures"]] == [False, False, True]
    (axes,) = gallery_figure(noise(3, 3, 24, 24), maps, roles=roles).axes
    shown = np.asarray(axes.images[0].get_array())
    assert (shown[25:49, 2 * 25 : 2 * 25 + 24] == 255).all()


def test_gallery_has_a_row_for_each_method_and_a_column_for_each_image() -> None:
    images, maps = torch.rand(3, 3, 24, 30), {"explainer": torch.rand(3, 24, 30)}
    masks, roles = torch.rand(3, 24, 30) > 0.5, {"explainer": Role.EXPLAINER}
    (axes,) = gallery_figure(images, maps, masks, roles=roles).axes
    ticks = axes.get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["image", "true mask", "this explainer"]
    assert [tick.get_fontweight() for tick in ticks] == ["normal", "normal", "bold"]
    shown = axes.images[0].get_array()
    assert shown is not None
    pixels = torch.as_tensor(np.asarray(shown))
    assert pixels.shape == (3 * 25, 3 * 31, 3)
    second = slice(31, 31 + 30)
    assert torch.equal(pixels[:24, second], (255 * images[1]).round().byte().permute(1, 2, 0))
    assert torch.equal(pixels[25:49, second, 0] > 127, masks[1])
    expected = colour(maps["explainer"][1], "viridis", limits(maps["explainer"][1]))
    assert torch.equal(pixels[50:74, second], torch.as_tensor(expected))
    (axes,) = gallery_figure(images, maps, roles=roles).axes
    assert len(axes.get_yticklabels()) == 2


def test_captions() -> None:
    assert Caption("a.jpg", "tench", 0.984).lines == ("a.jpg", "98\u00a0% tench")


def test_captions_in_the_figure_stand_above_their_images_and_do_not_overlap() -> None:
    maps, roles = {"explainer": noise(3, 24, 24)}, {"explainer": Role.EXPLAINER}
    captions = [
        Caption("holiday/$a_photograph_with_a_long_name.jpeg", "German short-haired pointer", 0.5),
        Caption("b.jpg", "cup", 0.1),
        Caption("holiday/another_photograph_with_a_long_name$.jpeg", "espresso maker", 0.99),
    ]
    figure = gallery_figure(noise(3, 3, 24, 24), maps, roles=roles, captions=captions)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    ticks = axes.get_xticklabels()
    assert ticks[1].get_text() == "b.jpg\n10\u00a0% cup"
    boxes = [tick.get_window_extent() for tick in ticks]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.y0 >= axes.get_window_extent().y1 for box in boxes)
    assert all(box.y1 <= figure.bbox.y1 for box in boxes)
    assert ticks[0].get_text().splitlines() == [
        "…a_long_name.jpeg",
        "50\u00a0% German",
        "short-haired…",
    ]


def test_long_names_of_methods_fit() -> None:
    names = ("per-image optimisation of a map", "WWWWWWWWWWWWWWWW")
    maps, roles = {m: noise(2, 24, 24) for m in names}, dict.fromkeys(names, Role.EXPLAINER)
    figure = gallery_figure(noise(2, 3, 24, 24), maps, roles=roles)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert all(tick.get_window_extent().x0 >= 0 for tick in axes.get_yticklabels())
    assert axes.get_window_extent().y1 <= figure.bbox.y1
