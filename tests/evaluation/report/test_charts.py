"""Figures of an evaluation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from saliency_vae.evaluation.report.charts import figures, gallery_figure, method_styles
from saliency_vae.evaluation.report.page import save_figures
from saliency_vae.evaluation.roles import Role
from saliency_vae.visualization.overlay import colour, limits
from tests.helpers.constructed_results import constructed, results, several, uncertainty


def test_figures_are_saved_both_ways(tmp_path: Path) -> None:
    drawn = figures(results(uncertainty=uncertainty()))
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
    with_masks = constructed({"insertion": {"explainer": 0.5}, "iou": {"explainer": 0.4}})
    assert figures(results(with_masks))["speed"].axes[0].get_ylabel() == "IoU"
    without = constructed({"insertion": {"explainer": 0.5}})
    assert figures(results(without))["speed"].axes[0].get_ylabel() == "Insertion AUC"


def test_labels_of_near_points_do_not_overlap() -> None:
    methods = {f"method_{index}": 0.5 + 0.001 * index for index in range(6)}
    figure = figures(results(constructed({"insertion": methods})))["speed"]
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_roles_set_methods_and_uncertainties_apart() -> None:
    roles = {"second": Role.EXPLAINER, "explain_randomly": Role.CONTROL}
    scores = constructed(
        {"insertion": {"explainer": 0.5, "second": 0.4, "explain_randomly": 0.1, "rise": 0.3}},
        roles=roles,
    )
    styles = method_styles(scores)
    assert styles["explainer"]["color"] == styles["second"]["color"]
    assert styles["explainer"]["linestyle"] != styles["second"]["linestyle"]
    assert len({style["color"] for style in styles.values()}) == 3
    widths = [styles[method]["linewidth"] for method in ("second", "rise", "explain_randomly")]
    assert widths == sorted(widths, reverse=True)
    (axes,) = figures(results(uncertainty=uncertainty()))["selective"].axes
    mine, control, oracle = axes.lines
    assert mine.get_linewidth() > control.get_linewidth() == oracle.get_linewidth()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "this explainer, P(1-P)",
        "control, it",
        "oracle",
    ]


def test_curves_of_every_baseline_image_have_a_row() -> None:
    scores = several()
    further = {f"{kind}_zero": by for kind, by in scores.curves.items()}
    scores = replace(scores, curves={**scores.curves, **further})
    axes = figures(results(scores))["curves"].axes
    assert [panel.get_title() for panel in axes] == [
        "Insertion",
        "Deletion",
        "Insertion over zero",
        "Deletion over zero",
    ]
    assert {len(panel.lines) for panel in axes} == {5}


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
