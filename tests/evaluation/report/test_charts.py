"""Figures of an evaluation."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from saliency_vae.evaluation.report.charts import figures, gallery_figure
from saliency_vae.evaluation.report.page import save_figures
from saliency_vae.visualization.overlay import colour, limits
from tests.helpers.constructed_results import constructed, several


def test_figures_are_saved_both_ways(tmp_path: Path) -> None:
    results = several()
    lines = {"ours, P(1-P)": [1.0, 0.5], "control, it": [1.0, 0.7]}
    results.uncertainty_curves = {
        "sparsification_top": {"removed": [0.0, 0.5], **lines},
        "sparsification_rank": {"removed": [0.0, 0.5], **lines},
        "selective": {"rejected": [0.0, 0.5], **lines},
        "reliability": {"predicted": [0.1, 0.9], "observed": [0.2, 0.8], "share": [0.5, 0.5]},
    }
    drawn = figures(results)
    assert set(drawn) == {
        "curves",
        "speed",
        "sparsification_top",
        "sparsification_rank",
        "selective",
        "reliability",
    }
    save_figures({name: drawn[name] for name in ("speed", "reliability")}, tmp_path / "figures")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "reliability.png",
        "reliability.svg",
        "speed.png",
        "speed.svg",
    ]
    with Image.open(tmp_path / "figures/speed.png") as picture_of_speed:
        assert min(picture_of_speed.size) > 500
    assert "<svg" in (tmp_path / "figures/speed.svg").read_text()


def test_speed_shows_iou_where_it_is_known() -> None:
    with_masks = constructed({"insertion": {"ours": 0.5}, "iou": {"ours": 0.4}})
    assert figures(with_masks)["speed"].axes[0].get_ylabel() == "IoU"
    without = constructed({"insertion": {"ours": 0.5}})
    assert figures(without)["speed"].axes[0].get_ylabel() == "Insertion AUC"


def test_labels_of_near_points_do_not_overlap() -> None:
    methods = {f"method_{index}": 0.5 + 0.001 * index for index in range(6)}
    figure = figures(constructed({"insertion": methods}))["speed"]
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_curves_of_every_removal_have_a_row() -> None:
    results = several()
    results.curves |= {f"{kind}_zero": by for kind, by in results.curves.items()}
    axes = figures(results)["curves"].axes
    assert [panel.get_title() for panel in axes] == [
        "Insertion",
        "Deletion",
        "Insertion, zero baseline",
        "Deletion, zero baseline",
    ]
    assert {len(panel.lines) for panel in axes} == {5}


def test_gallery_has_a_row_for_each_method_and_a_column_for_each_image() -> None:
    images, maps = torch.rand(3, 3, 24, 30), {"ours": torch.rand(3, 24, 30)}
    masks = torch.rand(3, 24, 30) > 0.5
    (axes,) = gallery_figure(images, maps, masks).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["image", "true mask", "ours"]
    shown = axes.images[0].get_array()
    assert shown is not None
    pixels = torch.as_tensor(np.asarray(shown))
    assert pixels.shape == (3 * 25, 3 * 31, 3)
    second = slice(31, 31 + 30)
    assert torch.equal(pixels[:24, second], (255 * images[1]).round().byte().permute(1, 2, 0))
    assert torch.equal(pixels[25:49, second, 0] > 127, masks[1])
    expected = colour(maps["ours"][1], "viridis", limits(maps["ours"][1]))
    assert torch.equal(pixels[50:74, second], torch.as_tensor(expected))
    (axes,) = gallery_figure(images, maps).axes
    assert len(axes.get_yticklabels()) == 2
