"""Edge-aware smoothing of maps by the fast guided filter, guided by the image.

He, Sun & Tang, "Guided Image Filtering" (2010); He & Sun, "Fast Guided Filter" (2015).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_STEP = 4  # stride in pixels of the coarse grid on which the map is regressed
_WINDOW = 0.2  # window radius, as a share of the image's side
_RIDGE = 1e-3  # for colours in [0, 1]: regions of smaller variance count as flat


def edge_aware(maps: Tensor, images: Tensor) -> Tensor:
    """Smooth maps so that their edges follow those of the image.

    In each window the map is regressed linearly on the three colours. A pixel's value comes from
    the average regression of all windows that contain it. The result is linear in the map.

    Args:
        maps: Maps, (B, H, W).
        images: Images in [0, 1], (B, 3, H, W).

    Returns:
        Smoothed maps, (B, H, W).

    Example:
        >>> image = torch.zeros(1, 3, 64, 64)
        >>> image[..., 32:] = 1  # the right half is white
        >>> speckle = (torch.rand(1, 64, 64) < 0.5) * image[:, 0]
        >>> smooth = edge_aware(speckle, image)[0]
        >>> bool(smooth[:, 40:].min() > 0.3), bool(smooth[:, :24].abs().max() < 0.1)
        (True, True)
    """
    colours = F.avg_pool2d(images, _STEP, ceil_mode=True)
    coarse = F.avg_pool2d(maps[:, None], _STEP, ceil_mode=True)
    radius = [max(1, round(_WINDOW * side)) for side in colours.shape[-2:]]
    mean_colour, mean_map = _window_mean(colours, radius), _window_mean(coarse, radius)
    covariance = _window_mean(colours * coarse, radius) - mean_colour * mean_map
    slope = _solved(_colour_covariance(colours, mean_colour, radius), covariance)
    offset = mean_map - (slope * mean_colour).sum(1, keepdim=True)
    line = _window_mean(torch.cat([slope, offset], dim=1), radius)
    line = enlarged(line, _STEP, maps.shape[-2:])
    return (line[:, :3] * images).sum(1) + line[:, 3]


def enlarged(coarse: Tensor, step: int, size: Sequence[int]) -> Tensor:
    """Upsample a grid of cells to the size of the image, whose last cells may be cut off.

    Args:
        coarse: Values of the cells, (B, C, h, w).
        step: Side of a cell in pixels of the image.
        size: Height and width of the image.

    Returns:
        Bilinearly interpolated values, (B, C, H, W).
    """
    whole = [step * cells for cells in coarse.shape[-2:]]
    height, width = size
    return F.interpolate(coarse, whole, mode="bilinear", align_corners=False)[..., :height, :width]


def _colour_covariance(colours: Tensor, mean: Tensor, radius: list[int]) -> list[Tensor]:
    """Covariance of the colours in each window, plus a ridge: three rows of (B, 3, h, w)."""
    rows = []
    for index in range(3):
        one = slice(index, index + 1)
        row = _window_mean(colours * colours[:, one], radius) - mean * mean[:, one]
        ridge = torch.zeros(3, 1, 1, dtype=row.dtype, device=row.device)
        ridge[index] = _RIDGE
        rows.append(row + ridge)
    return rows


def _solved(rows: list[Tensor], right: Tensor) -> Tensor:
    """Solve a 3x3 linear system at each pixel by Gauss-Jordan elimination, (B, 3, h, w).

    No pivoting is needed, as the matrices are positive definite. Unlike torch.linalg.solve, this
    can be exported to ONNX.
    """
    rows = [torch.cat([row, right[:, i, None]], dim=1) for i, row in enumerate(rows)]
    for pivot in range(3):
        rows[pivot] = rows[pivot] / rows[pivot][:, pivot, None]
        for other in {0, 1, 2} - {pivot}:
            rows[other] = rows[other] - rows[other][:, pivot, None] * rows[pivot]
    return torch.stack([row[:, 3] for row in rows], dim=1)


def _window_mean(maps: Tensor, radius: list[int]) -> Tensor:
    """Mean over windows of 2 radius + 1 pixels per side, clipped at the borders."""
    up, left = radius
    columns = F.avg_pool2d(maps, (2 * up + 1, 1), 1, (up, 0), count_include_pad=False)
    return F.avg_pool2d(columns, (1, 2 * left + 1), 1, (0, left), count_include_pad=False)
