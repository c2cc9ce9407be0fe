"""Figures of an evaluation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image

from saliency_vae.evaluation.report.charts import curves_figure, figures
from saliency_vae.evaluation.report.cost_chart import cost_figure
from saliency_vae.evaluation.report.line_styles import method_styles
from saliency_vae.evaluation.report.page import save_figures
from saliency_vae.evaluation.report.uncertainty_charts import uncertainty_figures
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.metrics import mean_interval
from tests.helpers.constructed_results import (
    constructed,
    results,
    several,
    uncertainty,
    with_values,
)


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


def test_quality_is_iou_where_it_is_known() -> None:
    with_masks = constructed({"insertion": {"explainer": 0.5}, "iou": {"explainer": 0.4}})
    assert figures(results(with_masks))["speed"].axes[-1].get_ylabel() == "IoU"
    without = constructed({"insertion": {"explainer": 0.5}})
    assert figures(results(without))["speed"].axes[-1].get_ylabel() == "Insertion AUC"


def crowd(number: int) -> Scores:
    """Methods that are near each other in everything."""
    scores = constructed({"insertion": {f"method_{i}": 0.5 + 0.001 * i for i in range(number)}})
    return replace(scores, passes=dict.fromkeys(scores.methods, 0.0))


def test_names_of_25_near_points_do_not_overlap() -> None:
    figure = cost_figure(crowd(25), "insertion")
    figure.draw_without_rendering()
    _, names, _ = figure.axes
    boxes = [text.get_window_extent() for text in names.texts]
    assert len(boxes) == 25
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(figure.bbox.containsx(x) for box in boxes for x in (box.x0, box.x1))
    assert names.texts[0].get_text() == "method 24"  # the best first


def test_the_figure_of_corrupted_images_says_which_lines_belong_together() -> None:
    names = ("level", "confidence", "agreement at 5 % kept", "declared out of depth")
    curves = {"corruption_noise": {name: [0.0, 1.0] for name in names}}
    (figure,) = uncertainty_figures(UncertaintyReport(curves=curves)).values()
    axes = figure.axes[0]
    assert len(axes.lines) == 3  # the last should rise
    assert axes.get_title() == "Corrupted images: confidence should fall as agreement does"


def test_images_of_one_group_have_an_interval_of_no_width() -> None:
    draws = [
        torch.rand(5, generator=torch.Generator().manual_seed(seed)) ** 12 for seed in range(300)
    ]
    groups = torch.zeros(5, dtype=torch.long)
    intervals = [mean_interval(values, groups=groups) for values in draws]
    outside = [not i.low <= i.mean <= i.high for i in intervals].index(True)  # by rounding
    scores = Scores(
        values={"insertion": {"rise": draws[outside]}},
        seconds={"rise": 0.1},
        roles={"rise": Role.RIVAL},
        groups=groups,
    )
    cost_figure(scores, "insertion")


def test_costs_are_passes_and_milliseconds() -> None:
    scores = constructed(
        {"insertion": {"explainer": 0.5, "rise": 0.4, "random": 0.1}},
        seconds={"explainer": 0.004, "rise": 2.0, "random": 1e-5},
    )
    scores = replace(scores, passes={"explainer": 2.0, "rise": 300.0, "random": 0.0})
    figure = cost_figure(scores, "insertion")
    passes, _, time = figure.axes
    assert sorted(points(passes)) == [(0.0, 0.1), (2.0, 0.5), (300.0, 0.4)]
    assert sorted(points(time)) == [(0.01, 0.1), (4.0, 0.5), (2000.0, 0.4)]
    assert (passes.get_xscale(), time.get_xscale()) == ("symlog", "log")
    assert len(figure.artists) == 2 * 3  # lines from the names to the points
    uncounted = cost_figure(replace(scores, passes={}), "insertion")
    assert [axes.get_xlabel() for axes in uncounted.axes] == ["", "milliseconds an explanation"]


def points(axes: Axes) -> list[tuple[float, float]]:
    lines = (container[0] for container in axes.containers)
    pairs = ((line.get_xdata()[0], line.get_ydata()[0]) for line in lines)
    return [(round(float(x), 6), round(float(y), 6)) for x, y in pairs]


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
    named = replace(scores, baseline="blur", seen=frozenset({"blur"}))
    assert [panel.get_title() for panel in curves_figure(named).axes[1:3]] == [
        "Deletion over blur, seen in training",
        "Insertion over zero, unseen in training",
    ]


def test_explainers_and_the_best_rivals_have_the_interval_as_a_band() -> None:
    means = {"explainer": 0.5, "slow": 0.9, "a": 0.3, "b": 0.2, "c": 0.1, "random": 0.0}
    scores = with_values(constructed({"insertion": means}), "insertion", slow=torch.ones(12))
    panel = curves_figure(scores).axes[0]
    styles = method_styles(scores)
    found = [to_hex(np.asarray(band.get_facecolor())[0]) for band in panel.collections]
    assert found == [styles[method]["color"] for method in ("explainer", "a", "b")]
    _, low, high = mean_interval(scores.curves["insertion"]["explainer"])
    ys = np.asarray(panel.collections[0].get_paths()[0].vertices)[:, 1]
    assert ys.min() == pytest.approx(float(low.min()))
    assert ys.max() == pytest.approx(float(high.max()))


def test_the_legend_stands_below_the_panels() -> None:
    scores = crowd(25)
    figure = curves_figure(scores)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    panels = [axes.get_tightbbox() for axes in figure.axes]
    assert not any(panel is None or box.overlaps(panel) for panel in panels)
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert len(legend.get_texts()) == 25


def test_a_method_without_a_curve_is_left_out_of_its_panel() -> None:
    scores = several()
    fewer = {m: curve for m, curve in scores.curves["deletion"].items() if m != "rise"}
    scores = replace(scores, curves={**scores.curves, "deletion": fewer})
    assert [len(panel.lines) for panel in curves_figure(scores).axes] == [5, 4]
