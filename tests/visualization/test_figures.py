"""Pictures of explanations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from saliency_vae.distributions import DiagonalNormal
from saliency_vae.visualization.figures import explanation_figure, save_figure

B, H, W = 3, 20, 33


def posterior(constant: bool = False) -> DiagonalNormal:
    generator = torch.Generator().manual_seed(0)
    mean = torch.zeros(B, H, W) if constant else torch.randn(B, H, W, generator=generator)
    return DiagonalNormal(mean.requires_grad_(), mean.detach() / 3 - 1)


def images() -> torch.Tensor:
    return torch.rand(B, 3, H, W, generator=torch.Generator().manual_seed(1))


def grid(figure: Figure, columns: int) -> list[list[Axes]]:
    """Rows of panels, without the colour bars."""
    axes = figure.axes[: B * columns]
    return [axes[row * columns : (row + 1) * columns] for row in range(B)]


def shown(axes: Axes) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    (picture,) = axes.get_images()
    array = picture.get_array()
    assert array is not None
    return np.asarray(array, dtype=np.float64)


@pytest.mark.parametrize("with_masks", [False, True])
def test_each_panel_shows_what_its_title_says(with_masks: bool) -> None:
    q, x, baseline = posterior(), images(), torch.full((B, 3, H, W), 0.25)
    masks = torch.rand(B, H, W) > 0.5 if with_masks else None
    figure = explanation_figure(x, q, baseline, fraction=0.2, masks=masks)
    rows = grid(figure, 5 + with_masks)
    titles = [axes.get_title() for axes in rows[0]]
    expected = ["image", "posterior mean", "posterior stddev", "P(among top 20%)", "top 20% kept"]
    assert titles == [*expected, "true mask"][: 5 + with_masks]
    inclusion = q.inclusion_probability(0.2).detach()
    for row, panels in enumerate(rows):
        np.testing.assert_allclose(shown(panels[0]), x[row].permute(1, 2, 0), rtol=1e-6)
        np.testing.assert_allclose(shown(panels[1]), q.mean[row].detach(), rtol=1e-6)
        inner = slice(3, -3), slice(3, -3)  # a border of 3 pixels is not drawn
        expected_stddev = q.stddev[row].detach()[inner]
        np.testing.assert_allclose(shown(panels[2])[inner], expected_stddev, rtol=1e-6)
        np.testing.assert_allclose(shown(panels[3]), inclusion[row], rtol=1e-6)
        if masks is not None:
            assert np.array_equal(shown(panels[5]), masks[row].numpy())


def test_the_kept_view_is_the_image_where_kept_and_the_baseline_elsewhere() -> None:
    q, x, baseline = posterior(), images(), torch.full((B, 3, H, W), 0.25)
    figure = explanation_figure(x, q, baseline, fraction=0.1)
    kept = q.topk_mask(0.1)
    assert kept.flatten(1).sum(1).tolist() == [round(0.1 * H * W)] * B
    for row, panels in enumerate(grid(figure, 5)):
        view = shown(panels[4])
        original = x[row].permute(1, 2, 0).numpy()
        mask = kept[row].numpy()
        np.testing.assert_allclose(view[mask], original[mask], rtol=1e-6)
        np.testing.assert_allclose(view[~mask], 0.25, rtol=1e-6)


def test_rows_share_their_colour_scales() -> None:
    q = posterior()
    rows = grid(explanation_figure(images(), q, images()), 5)
    mean, stddev = q.mean.detach(), q.stddev.detach()
    expected = [
        (float(mean.min()), float(mean.max())),
        (0.0, float(stddev[:, 3:-3, 3:-3].max())),
        (0.0, 1.0),
    ]
    for panels in rows:
        for axes, limits in zip(panels[1:4], expected, strict=True):
            assert axes.get_images()[0].get_clim() == pytest.approx(limits)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_maps_and_images_do_not_crash(value: float, tmp_path: Path) -> None:
    x = torch.full((B, 3, H, W), value)
    figure = explanation_figure(
        x, posterior(constant=True), x, fraction=1.0, masks=torch.zeros(B, H, W, dtype=torch.bool)
    )
    save_figure(figure, tmp_path / "constant.png")


def test_the_png_decodes_and_holds_a_picture(tmp_path: Path) -> None:
    figure = explanation_figure(images(), posterior(), images())
    path = tmp_path / "deep/er/figure.png"
    save_figure(figure, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        width, height = image.size
        colours = len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))
    assert width > height > 300
    assert colours > 500


def test_no_gradient_is_needed_and_nothing_is_changed() -> None:
    q, x = posterior(), images().requires_grad_()
    before = x.detach().clone()
    explanation_figure(x, q, x * 0.5)
    assert torch.equal(x, before)
    assert x.grad is None
