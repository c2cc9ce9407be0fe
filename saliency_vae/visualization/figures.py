"""Pictures of explanations."""

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


def explanation_figure(
    images: Tensor,
    posterior: SaliencyPosterior,
    baseline: Tensor,
    *,
    fraction: float = 0.1,
    masks: Tensor | None = None,
) -> Figure:
    """Show each image with what its explanation says, one row an image.

    Columns: image, posterior mean, posterior stddev, inclusion probability, the view that keeps
    the top pixels over the baseline, and the true mask if there is one. Colour scales are shared
    by the rows and stated by a bar under each column.

    Args:
        images: In [0, 1], (B, 3, H, W).
        posterior: Of these images.
        baseline: In [0, 1], (B, 3, H, W).
        fraction: Of the pixels kept, in (0, 1].
        masks: True masks, (B, H, W) bool.
    """
    images, baseline = images.detach().cpu(), baseline.detach().cpu()
    kept_view = perturb(images, posterior.topk_mask(fraction).cpu(), baseline)
    mean, stddev = posterior.mean.detach().cpu(), posterior.stddev.detach().cpu()
    inclusion = posterior.inclusion_probability(fraction).detach().cpu()
    maps: dict[str, tuple[Tensor, str, tuple[float, float]]] = {
        "posterior mean": (mean, "viridis", _range(mean)),
        "posterior stddev": (stddev, "magma", (0.0, _range(stddev)[1])),
        f"P(among top {fraction:.0%})": (inclusion, "cividis", (0.0, 1.0)),
    }
    rows, columns = len(images), 5 + (masks is not None)
    figure = Figure(figsize=(1.7 * columns, 1.62 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        _show_rgb(grid[row, 0], images[row])
        for column, (values, colours, limits) in enumerate(maps.values(), start=1):
            low, high = limits
            grid[row, column].imshow(_array(values[row]), cmap=colours, vmin=low, vmax=high)
        _show_rgb(grid[row, 4], kept_view[row])
        if masks is not None:
            grid[row, 5].imshow(_array(masks[row].float()), cmap="gray", vmin=0, vmax=1)
    titles = ["image", *maps, f"top {fraction:.0%} kept", "true mask"]
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title, fontsize=9)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for column, (_, colours, (low, high)) in enumerate(maps.values(), start=1):
        bar = figure.colorbar(
            ScalarMappable(Normalize(low, high), colours),
            ax=list(grid[:, column]),
            location="bottom",
            aspect=12,
            pad=0.01,
        )
        bar.ax.tick_params(labelsize=7)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; its directory is made if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _range(values: Tensor) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1  # a constant map has a scale too


def _array(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = values.float().numpy()
    return array


def _show_rgb(axes: Axes, image: Tensor) -> None:
    axes.imshow(_array(image.clamp(0, 1).to(torch.float32).permute(1, 2, 0)))
