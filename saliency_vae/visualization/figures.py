"""Figures of several explanations at once, for a run's directory and its log."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.perturbations import perturb
from saliency_vae.visualization.overlay import limits, without_border


@dataclass(frozen=True)
class _Column:
    """A column of the figure: a map of each image, on one colour scale."""

    title: str
    maps: Tensor
    colours: str
    scale: tuple[float, float]

    def draw(self, figure: Figure, axes: Iterable[Axes]) -> None:
        """Draw the maps, one below the other, and their colour bar."""
        low, high = self.scale
        panels = list(axes)
        for panel, values in zip(panels, self.maps, strict=True):
            panel.set_facecolor("0.93")  # where there is no value
            panel.imshow(_array(values), cmap=self.colours, vmin=low, vmax=high)
        mappable = ScalarMappable(Normalize(low, high), self.colours)
        bar = figure.colorbar(mappable, ax=panels, location="bottom", aspect=12, pad=0.01)
        bar.ax.tick_params(labelsize=7)


def explanation_figure(
    images: Tensor,
    posterior: SaliencyPosterior,
    baseline: Tensor,
    *,
    fraction: float = 0.1,
    masks: Tensor | None = None,
) -> Figure:
    """Draw images and their explanations, one row per image.

    Columns: image, posterior mean, posterior stddev, inclusion probability, the kept view with the
    top pixels over the baseline image, and the true mask if there is one. The rows of a column
    share a colour scale, with a colour bar below. The stddev is drawn without its outermost
    pixels, see :func:`saliency_vae.visualization.overlay.without_border`.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        posterior: Posterior of these images.
        baseline: Baseline images in [0, 1], (B, 3, H, W).
        fraction: Share of the pixels kept, in (0, 1].
        masks: True masks, (B, H, W) bool.
    """
    images, baseline = images.detach().cpu(), baseline.detach().cpu()
    kept_view = perturb(images, posterior.topk_mask(fraction).cpu(), baseline)
    mean, stddev = posterior.mean.detach().cpu(), without_border(posterior.stddev.detach().cpu())
    inclusion = posterior.inclusion_probability(fraction).detach().cpu()
    maps = [
        _Column("posterior mean", mean, "viridis", _scale(mean)),
        _Column("posterior stddev", stddev, "magma", (0.0, _scale(stddev)[1])),
        _Column(f"P(among top {fraction:.0%})", inclusion, "cividis", (0.0, 1.0)),
    ]
    rows, columns = len(images), 5 + (masks is not None)
    figure = Figure(figsize=(1.7 * columns, 1.62 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    _draw_images(grid[:, 0], images)
    for place, column in enumerate(maps, start=1):
        column.draw(figure, grid[:, place])
    _draw_images(grid[:, 4], kept_view)
    if masks is not None:
        for axes, mask in zip(grid[:, 5], masks, strict=True):
            axes.imshow(_array(mask.float()), cmap="gray", vmin=0, vmax=1)
    titles = ["image", *(column.title for column in maps), f"top {fraction:.0%} kept", "true mask"]
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title, fontsize=9)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; its directory is made if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _scale(values: Tensor) -> tuple[float, float]:
    low, high = limits(values)
    return low, high if high > low else low + 1  # a constant map needs a scale too


def _array(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = values.float().numpy()
    return array


def _draw_images(axes: Iterable[Axes], images: Tensor) -> None:
    for panel, image in zip(axes, images, strict=True):
        panel.imshow(_array(image.clamp(0, 1).to(torch.float32).permute(1, 2, 0)))
