"""The fast guided filter against regressions window by window, and what it is for."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.models.edge_aware import edge_aware, enlarged


def in_each_window(maps: Tensor, images: Tensor, radius: int) -> Tensor:
    """Slow reference for one image, whose sides are multiples of 4: ridge regression by windows."""
    colours, coarse = F.avg_pool2d(images, 4).double()[0], F.avg_pool2d(maps, 4).double()[0]
    height, width = coarse.shape
    lines = torch.zeros(height, width, 4, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            window = (
                slice(max(0, row - radius), row + radius + 1),
                slice(max(0, column - radius), column + radius + 1),
            )
            colour, value = colours[:, window[0], window[1]].flatten(1), coarse[window].flatten()
            centred = colour - colour.mean(1, keepdim=True)
            covariance = centred @ centred.T / len(value) + 1e-3 * torch.eye(3).double()
            slope = torch.linalg.solve(covariance, centred @ (value - value.mean()) / len(value))
            lines[row, column, :3] = slope
            lines[row, column, 3] = value.mean() - slope @ colour.mean(1)
    mean = torch.zeros_like(lines)
    for row in range(height):
        for column in range(width):
            near = lines[
                max(0, row - radius) : row + radius + 1,
                max(0, column - radius) : column + radius + 1,
            ]
            mean[row, column] = near.mean((0, 1))
    fine = F.interpolate(
        mean.permute(2, 0, 1)[None], images.shape[-2:], mode="bilinear", align_corners=False
    )[0]
    return ((fine[:3] * images[0]).sum(0) + fine[3])[None].float()


@pytest.mark.parametrize("grey", [False, True])
def test_as_regressions_of_each_window(grey: bool) -> None:
    torch.manual_seed(0)
    images, maps = torch.rand(1, 3, 40, 40), torch.randn(1, 40, 40)
    images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1) if grey else images
    expected = in_each_window(maps, images, radius=2)
    torch.testing.assert_close(edge_aware(maps, images), expected, atol=1e-4, rtol=1e-3)


def test_it_is_linear_and_keeps_a_constant() -> None:
    images, one, two = torch.rand(2, 3, 33, 50), torch.randn(2, 33, 50), torch.randn(2, 33, 50)
    both = edge_aware(one + 2 * two, images)
    torch.testing.assert_close(
        both, edge_aware(one, images) + 2 * edge_aware(two, images), atol=1e-4, rtol=1e-3
    )
    constant = edge_aware(torch.full((2, 33, 50), 0.7), images)
    torch.testing.assert_close(constant, torch.full((2, 33, 50), 0.7), atol=1e-4, rtol=0)


def test_cells_stay_where_they_are_when_the_last_one_is_cut_off() -> None:
    ramp = torch.arange(42.0).expand(1, 1, 7, 42)
    cells = F.avg_pool2d(ramp, 4, ceil_mode=True)
    found = enlarged(cells, 4, (7, 42))
    assert found.shape == ramp.shape
    inner = slice(2, 38)  # further out, the interpolation is level
    torch.testing.assert_close(found[..., inner], ramp[..., inner])
